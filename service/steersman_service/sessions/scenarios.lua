-- Reads or changes the scenarios in one atomic step; sessions.lua comes before it in the same library. Keys, all with one hash tag:
--   documents  hash: name -> scenario, serialized
--   versions   hash: name -> version
--   changes    stream: the latest changes, each with name, version after it (of a deletion, the last one) and change, serialized
--   effects    hash: name -> what the scenario does, where that was measured
--   measured   hash: name -> source of the histories that it was measured on: version of the bundle, a space, their digest
--   histories  hash: source -> histories, of the sources that `measured` names

local function forget_effects(keys, name)
  local source = redis.call('HGET', keys[5], name)
  if not source then
    return
  end
  redis.call('HDEL', keys[4], name)
  redis.call('HDEL', keys[5], name)
  for _, other in ipairs(redis.call('HVALS', keys[5])) do
    if other == source then
      return
    end
  end
  redis.call('HDEL', keys[6], source)
end

-- args: name, version that the caller has seen (0: there is none yet), scenario, change, most scenarios, most changes; and if its effects
-- were measured, effects, source, histories. Returns the version after the change; -1 and the version kept if that is another one; -2 if there are too many scenarios.
local function put_scenario(keys, args)
  local name, version = args[1], tonumber(redis.call('HGET', keys[2], args[1]) or 0)
  if version ~= tonumber(args[2]) then
    return {-1, version}
  end
  if version == 0 and redis.call('HLEN', keys[2]) >= tonumber(args[5]) then
    return {-2, 0}
  end
  redis.call('HSET', keys[1], name, args[3])
  redis.call('HSET', keys[2], name, version + 1)
  forget_effects(keys, name)
  if args[7] then
    redis.call('HSET', keys[4], name, args[7])
    redis.call('HSET', keys[5], name, args[8])
    redis.call('HSET', keys[6], args[8], args[9])
  end
  redis.call('XADD', keys[3], 'MAXLEN', args[6], '*', 'name', name, 'version', version + 1, 'change', args[4])
  return {version + 1, version}
end

-- args: name, version that the caller has seen (0: any), change, most changes. Returns 1 or 0, whether there was one; -1 and the version kept
-- if that is another one.
local function delete_scenario(keys, args)
  local name, version = args[1], tonumber(redis.call('HGET', keys[2], args[1]) or 0)
  if tonumber(args[2]) > 0 and version ~= tonumber(args[2]) then
    return {-1, version}
  end
  if version > 0 then
    redis.call('HDEL', keys[1], name)
    redis.call('HDEL', keys[2], name)
    forget_effects(keys, name)
    redis.call('XADD', keys[3], 'MAXLEN', args[4], '*', 'name', name, 'version', version, 'change', args[3])
  end
  return {version > 0 and 1 or 0, version}
end

-- args: name. nil: there is none.
local function get_scenario(keys, args)
  return redis.call('HGET', keys[1], args[1])
end

-- args: the name after which to begin, most scenarios, most bytes. Returns the number of all scenarios, 1 if more follow, and scenarios by name.
-- One at least, however large.
local function list_scenarios(keys, args)
  local names, listed, left, more = redis.call('HKEYS', keys[2]), {}, tonumber(args[3]), 0
  table.sort(names)
  for _, name in ipairs(names) do
    if name > args[1] then
      local document = redis.call('HGET', keys[1], name)
      left = left - #document
      if #listed >= tonumber(args[2]) or (left < 0 and #listed > 0) then
        more = 1
        break
      end
      listed[#listed + 1] = document
    end
  end
  return {#names, more, listed}
end

local function name_scenarios(keys)
  return redis.call('HKEYS', keys[2])
end

-- Returns name, version and source (empty: nothing was measured) of each scenario.
local function list_measured(keys)
  local versions, listed = redis.call('HGETALL', keys[2]), {}
  for place = 1, #versions, 2 do
    local name = versions[place]
    listed[#listed + 1], listed[#listed + 2] = name, versions[place + 1]
    listed[#listed + 1] = redis.call('HGET', keys[5], name) or ''
  end
  return listed
end

-- args: name. Returns scenario and effects, each nil if there are none.
local function get_measured(keys, args)
  return {redis.call('HGET', keys[1], args[1]), redis.call('HGET', keys[4], args[1])}
end

-- args: source. nil: there are none.
local function get_histories(keys, args)
  return redis.call('HGET', keys[6], args[1])
end

-- args: name (empty: all), where to begin as XREVRANGE takes it, most changes, most bytes. Returns 1 if more follow, and id, version and change of
-- each, newest first. One at least, however large.
local function list_changes(keys, args)
  local listed, left, place = {}, tonumber(args[4]), args[2]
  while true do
    local entries = redis.call('XREVRANGE', keys[3], place, '-', 'COUNT', 100)
    if #entries == 0 then
      return {0, listed}
    end
    for _, entry in ipairs(entries) do
      local id, fields = entry[1], entry[2]
      place = '(' .. id
      if args[1] == '' or fields[2] == args[1] then
        left = left - #fields[6]
        if #listed >= 3 * tonumber(args[3]) or (left < 0 and #listed > 0) then
          return {1, listed}
        end
        listed[#listed + 1], listed[#listed + 2], listed[#listed + 3] = id, fields[4], fields[6]
      end
    end
  end
end

register('put_scenario', put_scenario)
register('get_scenario', get_scenario, 'allow-oom')
register('list_scenarios', list_scenarios, 'allow-oom')
register('name_scenarios', name_scenarios, 'allow-oom')
register('list_measured', list_measured, 'allow-oom')
register('get_measured', get_measured, 'allow-oom')
register('get_histories', get_histories, 'allow-oom')
register('list_changes', list_changes, 'allow-oom')
register('delete_scenario', delete_scenario, 'allow-oom')
