-- Each call with a key drawn at random from a file: wrk -s load.lua URL -- FILE HEADER PREFIX
-- All calls are made beforehand, so that the load costs little beside what it measures, and as many and as different
-- ones for three keys as for a million, so that it costs the same.
local calls = {}
function init(args)
  local keys = {}
  for key in io.lines(args[1]) do
    keys[#keys + 1] = key
  end
  for number = 1, 100000 do
    local key = (args[3] or "") .. keys[number % #keys + 1]
    calls[number] = wrk.format("GET", nil, { [args[2]] = key, ["x-request-id"] = tostring(number) })
  end
  math.randomseed(os.time())
end
function request()
  return calls[math.random(#calls)]
end
