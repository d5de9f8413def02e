#!lua name=LIBRARY
-- Reads or changes a session in one atomic step. LIBRARY is the name of this library, which holds a hash of its content: servers of
-- two versions share a store. Keys, all with the session's hash tag:
--   meta      hash: version, total (consumed events ever appended), mark (given to the latest change; no two changes have the same one),
--             others (events of other kinds ever counted; an older server leaves it alone), schema (of whom changed it last; none is 1)
--   items     list: item ids of the latest consumed events, oldest first
--   ids       sorted set: ids of consumed events already counted, by the ordinal of their event
--   controls  list: sticky controls, serialized
--   otherids  sorted set: the same as ids, of events of other kinds. They do not push out those of consumed ones
--   refused   sorted set: items that were disliked ('d' before the item id) or hidden ('h'), by the ordinal of their latest event
-- In schema 1 the last two mean nothing while others is 0 (an older server deletes a session without them), and meta may hold other fields. The
-- first change by this server makes it schema 2: nothing of that is left. docs/decisions/0025 has the rule for later ones.

-- WAIT waits for the latest write of its connection. Where replicas are waited for, a call that repeats another one, maybe on another
-- connection, writes something in any case: it is acknowledged only if they have what the first one has changed, too.

-- Place of the first event in args of append and visit.
local EVENTS = 10

-- Keys of a session in which no event was of another kind than consumed.
local PLAIN_KEYS = 4

-- What is written here. A session of the next one can be read and changed; a later one is refused, and left as it is.
local SCHEMA = 2
local FIELDS = {version = true, total = true, mark = true, others = true, schema = true}

-- Beyond this, Lua's numbers are not exact.
local LARGEST = 2 ^ 53

-- A field of meta that counts; `none` where it is not there.
local function count(text, none)
  local value = tonumber(text or none)
  if not value or value < 0 or value > LARGEST or value % 1 ~= 0 then
    error(redis.error_reply('MALFORMED no server has written it'))
  end
  return value
end

-- version, total, mark, others, schema: 0, 0, '', 0, 1 if there is no session. An old session may have no mark.
local function read(keys)
  local found = redis.call('HMGET', keys[1], 'version', 'total', 'mark', 'others', 'schema')
  local schema = count(found[5], 1)
  if schema > SCHEMA + 1 then
    error(redis.error_reply('NEWERSCHEMA a later version has written it'))
  end
  return count(found[1], 0), count(found[2], 0), found[3] or '', count(found[4], 0), schema
end

-- Before a change. A session that is begun has nothing of one that lost its meta. One of the next schema keeps what it has besides; the
-- number tells its own servers that it was changed without that.
local function migrate(keys, version, others, schema)
  if version == 0 then
    redis.call('DEL', unpack(keys, 2))
  end
  if schema < SCHEMA then
    for _, field in ipairs(redis.call('HKEYS', keys[1])) do
      if not FIELDS[field] then
        redis.call('HDEL', keys[1], field)
      end
    end
    if others == 0 then
      redis.call('DEL', keys[5], keys[6])
    end
  end
  if schema ~= SCHEMA then
    redis.call('HSET', keys[1], 'schema', SCHEMA)
  end
end

-- Renews the time to live after a change, or when a tenth of it is gone; returns what is left (ms). The clock stands still while a
-- function runs: all keys of a session expire in the same millisecond.
local function renew(keys, ttl_ms, changed, others)
  local left_ms = redis.call('PTTL', keys[1])
  ttl_ms = tonumber(ttl_ms)
  if not changed and 0.9 * ttl_ms <= left_ms and left_ms <= ttl_ms then
    return left_ms
  end
  for i = 1, others > 0 and #keys or PLAIN_KEYS do
    redis.call('PEXPIRE', keys[i], ttl_ms)
  end
  return ttl_ms
end

-- The total after consumed events of a session in which no event was of another kind.
local function consume_all(keys, args, total)
  for i = EVENTS, #args, 2 do
    if redis.call('ZADD', keys[3], 'NX', total + 1, args[i]) == 1 then
      total = total + 1
      redis.call('RPUSH', keys[2], args[i + 1])
    end
  end
  return total
end

-- Whether the consumed event is new, and whether its item was refused until now.
local function consume(keys, id, item, total, others)
  if others > 0 and redis.call('ZSCORE', keys[5], id) or redis.call('ZADD', keys[3], 'NX', total + 1, id) == 0 then
    return false, false
  end
  redis.call('RPUSH', keys[2], item)
  return true, others > 0 and redis.call('ZREM', keys[6], 'd' .. item, 'h' .. item) > 0
end

-- Whether the event of another kind is new, and whether it refuses its item.
local function note(keys, id, item, kind, others)
  if redis.call('ZSCORE', keys[3], id) or redis.call('ZADD', keys[5], 'NX', others + 1, id) == 0 then
    return false, false
  end
  if kind == 's' then
    return true, false
  end
  redis.call('ZREM', keys[6], 'd' .. item, 'h' .. item)
  redis.call('ZADD', keys[6], others + 1, kind .. item)
  return true, true
end

local function trim(keys, args, others)
  redis.call('LTRIM', keys[2], -args[3], -1)
  redis.call('ZREMRANGEBYRANK', keys[3], 0, -1 - args[4])
  if others > 0 then
    redis.call('ZREMRANGEBYRANK', keys[5], 0, -1 - args[4])
    redis.call('ZREMRANGEBYRANK', keys[6], 0, -1 - args[5])
  end
end

-- As consume_all, whatever the kinds: total, others, which events are new, and whether what is refused has changed.
local function take_all(keys, args, total, others)
  local kinds, news, refusals = args[9], {}, false
  for i = EVENTS, #args, 2 do
    local place, new, refusal = (i - EVENTS) / 2 + 1, false, false
    local kind = kinds == '' and 'c' or string.sub(kinds, place, place)
    if kind == 'c' then
      new, refusal = consume(keys, args[i], args[i + 1], total, others)
      total = new and total + 1 or total
    else
      new, refusal = note(keys, args[i], args[i + 1], kind, others)
      others = new and others + 1 or others
    end
    news[place] = new and '1' or '0'
    refusals = refusals or refusal
  end
  return total, others, table.concat(news), refusals
end

-- Returns what append does, and then whether what is refused has changed, and others.
local function add(keys, args, version, total, mark, others, schema)
  local kinds, before, news, refusals = args[9], total + others, '', false
  if schema < SCHEMA and #args >= EVENTS then
    migrate(keys, version, others, schema)
  end
  if #args >= EVENTS then
    -- It fails on another type, before an id is counted whose item cannot be kept.
    redis.call('LLEN', keys[2])
  end
  if kinds == '' and others == 0 then
    total = consume_all(keys, args, total)
  else
    total, others, news, refusals = take_all(keys, args, total, others)
  end
  local appended = total + others - before
  if appended > 0 then
    migrate(keys, version + 1, others, math.max(schema, SCHEMA))
    version, mark = version + 1, args[2]
    redis.call('HSET', keys[1], 'version', version, 'total', total, 'mark', mark)
    if kinds ~= '' then
      redis.call('HSET', keys[1], 'others', others)
    end
    trim(keys, args, others)
  end
  local written = appended > 0 or args[8] == '1' and #args >= EVENTS
  return {appended, version, total, mark, renew(keys, args[1], written, others), news}, refusals, others
end

-- args of append and visit: time to live (ms), mark, max_events, remembered_ids, max_refused, version and mark that the caller knows, whether
-- replicas are waited for (1 or 0), kinds (empty if all are consumed, or a letter for each event: c, d disliked, h hidden, s shown), then event id
-- and item id by turns. Returns the
-- number of new events, version, total, mark, time to live (ms), and a text that has, with kinds, for each event 1 if it is new and 0 if not.
local function append(keys, args)
  return (add(keys, args, read(keys)))
end

-- As append, with items, controls and refused after that unless the caller knows them: it knew the session, all of its events were new, and
-- they changed nothing of what is refused. nil: there is no session and no event to begin one.
local function visit(keys, args)
  local version, total, mark, others, schema = read(keys)
  if version == 0 and #args < EVENTS then
    return nil
  end
  local known = mark ~= '' and version == tonumber(args[6]) and mark == args[7]
  local found, refusals
  found, refusals, others = add(keys, args, version, total, mark, others, schema)
  if not (known and found[1] == (#args - EVENTS + 1) / 2) or refusals then
    found[7], found[8] = redis.call('LRANGE', keys[2], 0, -1), redis.call('LRANGE', keys[4], 0, -1)
    found[9] = others > 0 and redis.call('ZRANGE', keys[6], 0, -1) or {}
  end
  return found
end

-- args: time to live (ms), mark, whether replicas are waited for (1 or 0), then the controls. Returns version, and 1 if this created the session.
local function set_controls(keys, args)
  local version, _, _, others, schema = read(keys)
  local controls = redis.call('LRANGE', keys[4], 0, -1)
  local created = version == 0
  local changed = created or #controls ~= #args - 3
  for i, control in ipairs(controls) do
    changed = changed or control ~= args[i + 3]
  end
  if changed then
    migrate(keys, version, others, schema)
    version = version + 1
    redis.call('DEL', keys[4])
    for i = 4, #args do
      redis.call('RPUSH', keys[4], args[i])
    end
    redis.call('HSET', keys[1], 'version', version, 'mark', args[2])
  end
  renew(keys, args[1], changed or args[3] == '1', others)
  return {version, created and 1 or 0}
end

-- args: whether replicas are waited for (1). Whether there was a session: of an older server's deletion, keys may be left that mean nothing.
-- What cannot be read is erased, too.
local function delete(keys, args)
  local schema = redis.pcall('HGET', keys[1], 'schema')
  if type(schema) == 'string' and (tonumber(schema) or 0) > SCHEMA + 1 then
    error(redis.error_reply('NEWERSCHEMA a later version has written it'))
  end
  if args[1] == '1' then
    redis.call('SET', keys[4], '')
  end
  local existed = redis.call('EXISTS', keys[1])
  redis.call('DEL', unpack(keys))
  return existed
end

-- A visit that calls, the first time, each command that the others call; later ones change nothing, so there is nothing to sync.
local function probe(keys, args)
  if read(keys) == 0 then
    delete(keys, {})
  end
  return visit(keys, args)
end

-- args: most events kept (about), then item id and time (ms) by turns. The stream has no session's key: exposures of all sessions are in one.
local function expose(keys, args)
  for i = 2, #args, 2 do
    redis.call('XADD', keys[1], 'MAXLEN', '~', args[1], '*', 'item', args[i], 'time_ms', args[i + 1])
  end
end

-- None is flagged 'no-writes': a replica refuses all of them, so a replica that lags cannot say that there is no session.
local function register(name, callback, ...)
  redis.register_function{function_name = 'LIBRARY_' .. name, callback = callback, flags = {...}}
end

register('append', append)
register('visit', visit)
register('set_controls', set_controls)
register('probe', probe)
register('expose', expose)
-- A full store can still be read, and emptied.
register('get', visit, 'allow-oom')
register('delete', delete, 'allow-oom')
