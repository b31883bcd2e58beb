-- Each call with a key drawn at random from a file: wrk -s load.lua URL -- FILE HEADER PREFIX
local calls = {}
function init(args)
  for key in io.lines(args[1]) do  -- made beforehand, so that the load costs little beside what it measures
    calls[#calls + 1] = wrk.format("GET", nil, { [args[2]] = (args[3] or "") .. key })
  end
  math.randomseed(os.time())
end
function request()
  return calls[math.random(#calls)]
end
