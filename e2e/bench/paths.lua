-- wrk: GETs the paths that a file lists, each thread from a place of its own. Arguments: the file.
local threads = 0

function setup(thread)
  thread:set("start", threads * 7919)
  threads = threads + 1
end

function init(arguments)
  requests, at = {}, start
  for path in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("GET", path)
  end
end

function request()
  at = at + 1
  return requests[at % #requests + 1]
end
