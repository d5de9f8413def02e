-- A session, read or changed in one atomic step. KEYS, all with the session's hash tag:
--   meta      hash: version, total (events ever appended), mark (what the latest change was given: no two changes have the same),
--             history (the mark of the latest append), state (a hidden state), state_of (whose)
--   items     list: item ids of the latest events, oldest first
--   ids       sorted set: ids of events already counted, by the ordinal of their event
--   controls  list: sticky controls, serialized
-- ARGV: operation, time to live in milliseconds, then the operation's own arguments.
local meta, items, ids, controls = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

-- version, total, mark. One of before marks has none.
local function read()
  local found = redis.call('HMGET', meta, 'version', 'total', 'mark')
  return tonumber(found[1] or 0), tonumber(found[2] or 0), found[3] or ''
end

-- The clock stands still while a script runs: all keys of a session expire in the same millisecond. It is a write even where there is no
-- session: a replica refuses it, and cannot say that there is none when it only lags.
local function touch()
  for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, ARGV[2])
  end
end

-- ARGV from `first`: max_events, remembered_ids, mark, then event id and item id by turns. How many were new; version, total, mark.
local function add(first, version, total, mark)
  local before = total
  for i = first + 3, #ARGV, 2 do
    if redis.call('ZADD', ids, 'NX', total + 1, ARGV[i]) == 1 then
      total = total + 1
      redis.call('RPUSH', items, ARGV[i + 1])
    end
  end
  if total > before then
    version, mark = version + 1, ARGV[first + 2]
    redis.call('HSET', meta, 'version', version, 'total', total, 'mark', mark, 'history', mark)
    redis.call('LTRIM', items, -ARGV[first], -1)
    redis.call('ZREMRANGEBYRANK', ids, 0, -1 - ARGV[first + 1])
  end
  return total - before, version, total, mark
end

-- An older server appends and leaves `history` alone, but counts.
local function whose(total, history, bundle)
  return total .. ' ' .. history .. ' ' .. bundle
end

local operations = {}

function operations.append()
  local appended, version, total = add(3, read())
  touch()
  return {appended, version, total}
end

function operations.get()
  touch()
  if redis.call('EXISTS', meta) == 0 then
    return false
  end
  local version, total, mark = read()
  return {version, total, redis.call('LRANGE', items, 0, -1), redis.call('LRANGE', controls, 0, -1)}
end

-- ARGV from 3: version and mark of what the caller knows, the bundle of whose states it wants one, then as for `append`. Whoever knew what was
-- there before is told no more than that.
function operations.visit()
  local version, total, mark = read()
  if #ARGV < 9 and version == 0 then
    touch()
    return false
  end
  local known = mark ~= '' and version == tonumber(ARGV[3]) and mark == ARGV[4]
  local appended
  appended, version, total, mark = add(6, version, total, mark)
  touch()
  if known and appended == (#ARGV - 8) / 2 then
    return {appended, version, total, mark}
  end
  local found = redis.call('HMGET', meta, 'history', 'state', 'state_of')
  local history, state = found[1] or '', found[2]
  if not state or found[3] ~= whose(total, history, ARGV[5]) then
    state = ''
  end
  return {
    appended, version, total, mark,
    redis.call('LRANGE', items, 0, -1), redis.call('LRANGE', controls, 0, -1), history, state,
  }
end

-- ARGV from 3: total and mark of the latest append, bundle, state. It counts as no change.
function operations.keep_state()
  local _, total = read()
  if total ~= tonumber(ARGV[3]) or redis.call('HGET', meta, 'history') ~= ARGV[4] then
    return 0
  end
  redis.call('HSET', meta, 'state', ARGV[6], 'state_of', whose(total, ARGV[4], ARGV[5]))
  return 1
end

-- ARGV from 3: the mark, then the controls.
function operations.set_controls()
  local created = 1 - redis.call('EXISTS', meta)
  local current = redis.call('LRANGE', controls, 0, -1)
  local same = #current == #ARGV - 3 and created == 0
  for i, control in ipairs(current) do
    same = same and control == ARGV[i + 3]
  end
  local version = read()
  if not same then
    redis.call('DEL', controls)
    for i = 4, #ARGV do
      redis.call('RPUSH', controls, ARGV[i])
    end
    version = version + 1
    redis.call('HSET', meta, 'version', version, 'mark', ARGV[3])
  end
  touch()
  return {version, created}
end

function operations.delete()
  return redis.call('DEL', unpack(KEYS))
end

-- Fails as any operation on a session would. It makes one, where there is none, with all that other operations call; from then on its write
-- changes nothing, so that nothing has to be synced or replicated for it, and is refused wherever one that does would be.
function operations.probe()
  read()
  if redis.call('EXISTS', ids) == 0 then
    redis.call('DEL', unpack(KEYS))
    redis.call('HSET', meta, 'version', 1, 'total', 1)
    redis.call('HGET', meta, 'total')
    redis.call('RPUSH', items, 'probe')
    redis.call('LTRIM', items, -1, -1)
    redis.call('RPUSH', controls, 'probe')
    redis.call('ZREMRANGEBYRANK', ids, 0, -1)
    touch()
    redis.call('ZADD', ids, 'NX', 1, 'probe')
    touch()
  end
  redis.call('LRANGE', items, 0, -1)
  redis.call('ZADD', ids, 'NX', 1, 'probe')
  return 1
end

return operations[ARGV[1]]()
