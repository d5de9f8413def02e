-- A session, read or changed in one atomic step. KEYS, all with the session's hash tag:
--   meta      hash: version, total (events ever appended)
--   items     list: item ids of the latest events, oldest first
--   ids       sorted set: ids of events already counted, by the ordinal of their event
--   controls  list: sticky controls, serialized
-- ARGV: operation, time to live in milliseconds, then the operation's own arguments.
local meta, items, ids, controls = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local function read(field)
  return tonumber(redis.call('HGET', meta, field) or 0)
end

-- The clock stands still while a script runs: all keys of a session expire in the same millisecond.
local function touch()
  for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, ARGV[2])
  end
end

local operations = {}

-- ARGV from 3: max_events, remembered_ids, then event id and item id by turns.
function operations.append()
  local before = read('total')
  local total = before
  for i = 5, #ARGV, 2 do
    if redis.call('ZADD', ids, 'NX', total + 1, ARGV[i]) == 1 then
      total = total + 1
      redis.call('RPUSH', items, ARGV[i + 1])
    end
  end
  if total > before then
    redis.call('HSET', meta, 'total', total)
    redis.call('HINCRBY', meta, 'version', 1)
    redis.call('LTRIM', items, -ARGV[3], -1)
    redis.call('ZREMRANGEBYRANK', ids, 0, -1 - ARGV[4])
  end
  touch()
  return {total - before, read('version'), total}
end

function operations.get()
  if redis.call('EXISTS', meta) == 0 then
    return false
  end
  touch()
  return {read('version'), read('total'), redis.call('LRANGE', items, 0, -1), redis.call('LRANGE', controls, 0, -1)}
end

-- ARGV from 3: the controls.
function operations.set_controls()
  local created = 1 - redis.call('EXISTS', meta)
  local current = redis.call('LRANGE', controls, 0, -1)
  local same = #current == #ARGV - 2 and created == 0
  for i, control in ipairs(current) do
    same = same and control == ARGV[i + 2]
  end
  if not same then
    redis.call('DEL', controls)
    for i = 3, #ARGV do
      redis.call('RPUSH', controls, ARGV[i])
    end
    redis.call('HINCRBY', meta, 'version', 1)
  end
  touch()
  return {read('version'), created}
end

function operations.delete()
  return redis.call('DEL', unpack(KEYS))
end

return operations[ARGV[1]]()
