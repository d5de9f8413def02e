#!lua name=LIBRARY
-- Reads or changes a session in one atomic step. LIBRARY is the name of this library, which holds a hash of its content: servers of
-- two versions share a store. Keys, all with the session's hash tag:
--   meta      hash: version, total (events ever appended), mark (given to the latest change; no two changes have the same one).
--             Other fields are an older server's and ignored.
--   items     list: item ids of the latest events, oldest first
--   ids       sorted set: ids of events already counted, by the ordinal of their event
--   controls  list: sticky controls, serialized

-- version, total, mark: 0, 0, '' if there is no session. An old session may have no mark.
local function read(keys)
  local found = redis.call('HMGET', keys[1], 'version', 'total', 'mark')
  return tonumber(found[1] or 0), tonumber(found[2] or 0), found[3] or ''
end

-- Renews the time to live after a change, or when a tenth of it is gone; returns what is left (ms). The clock stands still while a
-- function runs: all keys of a session expire in the same millisecond.
local function renew(keys, ttl_ms, changed)
  local left_ms = redis.call('PTTL', keys[1])
  ttl_ms = tonumber(ttl_ms)
  if not changed and 0.9 * ttl_ms <= left_ms and left_ms <= ttl_ms then
    return left_ms
  end
  for _, key in ipairs(keys) do
    redis.call('PEXPIRE', key, ttl_ms)
  end
  return ttl_ms
end

local function add(keys, args, version, total, mark)
  local _, items, ids = unpack(keys)
  local before = total
  for i = 7, #args, 2 do
    if redis.call('ZADD', ids, 'NX', total + 1, args[i]) == 1 then
      total = total + 1
      redis.call('RPUSH', items, args[i + 1])
    end
  end
  if total > before then
    version, mark = version + 1, args[2]
    redis.call('HSET', keys[1], 'version', version, 'total', total, 'mark', mark)
    redis.call('LTRIM', items, -args[3], -1)
    redis.call('ZREMRANGEBYRANK', ids, 0, -1 - args[4])
  end
  return {total - before, version, total, mark, renew(keys, args[1], total > before)}
end

-- args of append and visit: time to live (ms), mark, max_events, remembered_ids, version and mark that the caller knows, then event id
-- and item id by turns. Returns the number of new events, version, total, mark, time to live (ms).
local function append(keys, args)
  return add(keys, args, read(keys))
end

-- As append, with items and controls after that unless the caller knows them: it knew the session, and all of its events were new.
-- nil: there is no session and no event to begin one.
local function visit(keys, args)
  local version, total, mark = read(keys)
  if version == 0 and #args < 7 then
    return nil
  end
  local known = mark ~= '' and version == tonumber(args[5]) and mark == args[6]
  local found = add(keys, args, version, total, mark)
  if not (known and found[1] == (#args - 6) / 2) then
    found[6], found[7] = redis.call('LRANGE', keys[2], 0, -1), redis.call('LRANGE', keys[4], 0, -1)
  end
  return found
end

-- args: time to live (ms), mark, then the controls. Returns version, and 1 if this created the session.
local function set_controls(keys, args)
  local version = read(keys)
  local controls = redis.call('LRANGE', keys[4], 0, -1)
  local created = version == 0
  local changed = created or #controls ~= #args - 2
  for i, control in ipairs(controls) do
    changed = changed or control ~= args[i + 2]
  end
  if changed then
    version = version + 1
    redis.call('DEL', keys[4])
    for i = 3, #args do
      redis.call('RPUSH', keys[4], args[i])
    end
    redis.call('HSET', keys[1], 'version', version, 'mark', args[2])
  end
  renew(keys, args[1], changed)
  return {version, created and 1 or 0}
end

local function delete(keys)
  return redis.call('DEL', unpack(keys))
end

-- A visit that calls, the first time, each command that the others call; later ones change nothing, so there is nothing to sync.
local function probe(keys, args)
  if read(keys) == 0 then
    delete(keys)
  end
  return visit(keys, args)
end

-- None is flagged 'no-writes': a replica refuses all of them, so a replica that lags cannot say that there is no session.
local function register(name, callback, ...)
  redis.register_function{function_name = 'LIBRARY_' .. name, callback = callback, flags = {...}}
end

register('append', append)
register('visit', visit)
register('set_controls', set_controls)
register('probe', probe)
-- A full store can still be read, and emptied.
register('get', visit, 'allow-oom')
register('delete', delete, 'allow-oom')
