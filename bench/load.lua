-- Each call with a key drawn at random from a file: wrk -s load.lua URL -- FILE HEADER PREFIX
local keys, header, prefix = {}, "", ""
function init(args)
  for key in io.lines(args[1]) do keys[#keys + 1] = key end
  header, prefix = args[2], args[3] or ""
  math.randomseed(os.time())
end
function request()
  return wrk.format("GET", nil, { [header] = prefix .. keys[math.random(#keys)] })
end
