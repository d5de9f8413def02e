-- Reads or changes corrected labels in one atomic step; sessions.lua comes before it in the same library. Keys, both with one hash tag:
--   documents  hash: bundle version and feature -> correction, serialized
--   changes    how many changes there were

-- args: field, correction (empty: none any more), most corrections, other fields whose corrections go. Returns the number of changes; -1 if there
-- are too many corrections.
local function set_label(keys, args)
  if args[2] ~= '' then
    if redis.call('HEXISTS', keys[1], args[1]) == 0 and redis.call('HLEN', keys[1]) >= tonumber(args[3]) then
      return -1
    end
    redis.call('HSET', keys[1], args[1], args[2])
  else
    redis.call('HDEL', keys[1], args[1])
  end
  for place = 4, #args do
    redis.call('HDEL', keys[1], args[place])
  end
  return redis.call('INCR', keys[2])
end

-- args: the number of changes that the caller has seen. nil: there were no others. Otherwise their number, then fields and corrections by turns.
local function get_labels(keys, args)
  local changes = redis.call('GET', keys[2]) or '0'
  if changes == args[1] then
    return nil
  end
  return {changes, redis.call('HGETALL', keys[1])}
end

register('set_label', set_label)
register('get_labels', get_labels, 'allow-oom')
