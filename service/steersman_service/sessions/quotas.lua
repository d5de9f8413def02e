-- Counts the sessions and bytes of a tenant; sessions.lua comes before it in the same library. Keys, all with the tenant's hash tag, which is
-- another one than its sessions': in a cluster they lie elsewhere, so counts may be off by what fails between two calls.
--   sessions  sorted set: sessions, by the time (ms) when they expire if nothing changes them
--   bytes     hash: session -> bytes of its keys, as they were counted last
--   total     sum of those

-- Expired sessions that one call forgets at most.
local MOST_EXPIRED = 100

local function forget_session(keys, args)
  local known = redis.call('ZREM', keys[1], args[1])
  local bytes = tonumber(redis.call('HGET', keys[2], args[1]) or 0)
  redis.call('HDEL', keys[2], args[1])
  if bytes > 0 then
    redis.call('DECRBY', keys[3], bytes)
  end
  if redis.call('ZCARD', keys[1]) == 0 then
    redis.call('DEL', unpack(keys))
  end
  return known
end

-- args: session, time to live (ms), most sessions, most bytes (0: any). Returns 1 if the session may be changed, -1 if there are too many sessions and
-- it is none of them, -2 if there are too many bytes.
local function admit_session(keys, args)
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  for _, expired in ipairs(redis.call('ZRANGEBYSCORE', keys[1], '-inf', now, 'LIMIT', 0, MOST_EXPIRED)) do
    forget_session(keys, {expired})
  end
  local most_sessions, most_bytes = tonumber(args[3]), tonumber(args[4])
  if most_bytes > 0 and tonumber(redis.call('GET', keys[3]) or 0) >= most_bytes then
    return -2
  end
  if most_sessions > 0 and not redis.call('ZSCORE', keys[1], args[1]) and redis.call('ZCARD', keys[1]) >= most_sessions then
    return -1
  end
  redis.call('ZADD', keys[1], now + args[2], args[1])
  for _, key in ipairs(keys) do
    redis.call('PEXPIRE', key, args[2])
  end
  return 1
end

-- args: session, its bytes, time to live (ms).
local function count_bytes(keys, args)
  if redis.call('ZSCORE', keys[1], args[1]) then
    local before = tonumber(redis.call('HGET', keys[2], args[1]) or 0)
    redis.call('HSET', keys[2], args[1], args[2])
    redis.call('INCRBY', keys[3], args[2] - before)
    redis.call('PEXPIRE', keys[2], args[3])
    redis.call('PEXPIRE', keys[3], args[3])
  end
end

-- Bytes of all keys of a session, as the server estimates them.
local function measure_session(keys)
  local bytes = 0
  for _, key in ipairs(keys) do
    bytes = bytes + (redis.call('MEMORY', 'USAGE', key) or 0)
  end
  return bytes
end

register('admit_session', admit_session)
register('count_bytes', count_bytes)
register('measure_session', measure_session, 'allow-oom')
register('forget_session', forget_session, 'allow-oom')
