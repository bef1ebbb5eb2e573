-- wrk: pushes blobs of 4 KiB, a POST and a PUT for each, with one connection a thread. Arguments: a file of their bytes,
-- a file of their digests, how many of them others have had, how many threads there are, and the repository.
-- Prints pushes a second.
local SIZE = 4096
local threads = {}

function setup(thread)
  thread:set("number", #threads)
  threads[#threads + 1] = thread
end

function init(arguments)
  bytes = io.open(arguments[1], "rb")
  digests = {}
  for digest in io.lines(arguments[2]) do
    digests[#digests + 1] = digest
  end
  at, step, start = tonumber(arguments[3]) + number, tonumber(arguments[4]), wrk.format("POST", arguments[5])
  pushed, failed = 0, 0
end

function request()
  if not location then
    return start
  end
  local blob = at % #digests
  bytes:seek("set", blob * SIZE)
  local separator = location:find("?", 1, true) and "&" or "?"
  local headers = { ["Content-Type"] = "application/octet-stream" }
  return wrk.format("PUT", location .. separator .. "digest=" .. digests[blob + 1], headers, bytes:read(SIZE))
end

function response(status, headers)
  if status == 202 then
    location = (headers["Location"] or headers["location"]):gsub("^https?://[^/]+", "")
    return
  end
  location, at = nil, at + step
  if status == 201 then
    pushed = pushed + 1
  else
    failed = failed + 1
  end
end

function done(summary)
  local pushed, failed = 0, 0
  for _, thread in ipairs(threads) do
    pushed, failed = pushed + thread:get("pushed"), failed + thread:get("failed")
  end
  print(("Non-2xx: %d\nPushes/sec: %.1f"):format(failed, pushed / summary.duration * 1e6))
end
