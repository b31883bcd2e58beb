-- For wrk: each call with a key taken at random from a file. Arguments: the file, and what goes before the key.
local keys, before, after = {}, "", ""

function init(args)
  math.randomseed(os.time())
  for key in io.lines(args[1]) do keys[#keys + 1] = key end
  before = "GET " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.headers["Host"] .. "\r\n" .. args[2]
  after = "\r\n\r\n"
end

function request()
  return before .. keys[math.random(#keys)] .. after
end

function done(summary, latency, requests)
  local e = summary.errors
  local errors = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), errors))
end
