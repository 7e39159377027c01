-- One exchange of a member with its group: what it did since the last one goes in, what the others do comes out.
-- KEYS[1]: the group's prefix. ARGV: member, fence, settings, operations, whether to look around, last news (as JSON);
-- which process of the member's name asks, the number of this exchange, and of the last one of which it had an answer.
-- Every key begins with the prefix, whose hash tag keeps a group on one node of a cluster.
local prefix, member, fence = KEYS[1], ARGV[1], ARGV[2]
local settings, operations = cjson.decode(ARGV[3]), cjson.decode(ARGV[4])
local look, heard = ARGV[5] == '1', ARGV[6]
local process, number, answered = ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local second = tonumber(clock[1])
local members, fences, waiting = prefix .. 'members', prefix .. 'fences', prefix .. 'waiting'
local stirred, limits = prefix .. 'stirred', prefix .. 'limits'
local freed, left, lost, drained = {}, {}, false, false

local function sums(scope) return prefix .. 'sum:' .. scope end

local function count(key, field, change)
  local found = redis.call('HINCRBY', key, field, change)
  if found <= 0 then redis.call('HDEL', key, field) end
  return found
end

-- What this member and all together hold then.
local function take(scope, name, number)
  return count(prefix .. 'by:' .. member, scope .. ':' .. name, number), count(sums(scope), name, number)
end

local function own(scope, name)
  return tonumber(redis.call('HGET', prefix .. 'by:' .. member, scope .. ':' .. name) or 0)
end

local function total(scope, name) return tonumber(redis.call('HGET', sums(scope), name) or 0) end

local function drop(gone)
  local held = redis.call('HGETALL', prefix .. 'by:' .. gone)
  for i = 1, #held, 2 do
    local scope, name = held[i]:match('^(%a+):(.*)$')
    if scope ~= 'head' then count(sums(scope), name, -tonumber(held[i + 1])) end
  end
  redis.call('DEL', prefix .. 'by:' .. gone)
  redis.call('ZREM', members, gone)
  redis.call('HDEL', waiting, gone)
  redis.call('HDEL', fences, gone)
  redis.call('HDEL', stirred, gone)
  lost = lost or #held > 0
end

-- A member that has not been seen for a moment keeps what it holds, but nobody waits for it in the line.
local function awake(other)
  local lease = redis.call('ZSCORE', members, other)
  return lease and tonumber(lease) - settings.lease + settings.patience > now
end

local function reserved_elsewhere(name)
  local reserved = total('reserved', name)
  if reserved == 0 or reserved <= own('reserved', name) then return 0 end
  local found = 0
  for _, other in ipairs(redis.call('ZRANGE', members, 0, -1)) do
    if other ~= member and awake(other) then
      found = found + tonumber(redis.call('HGET', prefix .. 'by:' .. other, 'reserved:' .. name) or 0)
    end
  end
  return found
end

-- When the request arrived that waits longest for a server at another member; nothing where none does.
local function head_of(other, server)
  return tonumber(redis.call('HGET', prefix .. 'by:' .. other, 'head:' .. server) or nil)
end

-- Members whose first for a server has waited longer: each has a slot before one that arrived at `since`.
local function earlier_elsewhere(server, since)
  local found, line = 0, redis.call('HGETALL', waiting)
  for i = 1, #line, 2 do
    local head = line[i] ~= member and awake(line[i]) and head_of(line[i], server)
    if head and head < since then found = found + 1 end
  end
  return found
end

-- What the last one to claim a slot of a server took for its limit; nothing where nobody has.
local function limit_of(server) return tonumber(redis.call('HGET', limits, server) or nil) end

local function minute(kind, user)
  local key, found, sum = prefix .. kind .. user, {}, 0
  local rows = redis.call('HGETALL', key)
  for i = 1, #rows, 2 do
    if tonumber(rows[i]) < second - 60 then
      redis.call('HDEL', key, rows[i])
    else
      found[rows[i]] = tonumber(rows[i + 1])
      sum = sum + found[rows[i]]
    end
  end
  return found, sum
end

-- A number is never below zero: what is taken back may be older than a minute, or have been forgotten.
local counted = {}
local function add(kind, user, at, change)
  local key = prefix .. kind .. user
  if at < second - 60 then return end
  local found = redis.call('HINCRBY', key, at, change)
  if found <= 0 then redis.call('HDEL', key, at) end
  redis.call('EXPIRE', key, 120)
  counted[#counted + 1] = {kind, user, at, change - math.min(found, 0)}
end
local function admit(user, at, change) add('minute:', user, at, change) end
local function spend(user, at, change) add('tokens:', user, at, change) end

-- What was used of a day and its month: the database has the truth a moment later. So it begins with what the first one
-- to count `knows` of that (day, first day of its month, tokens of the day, of those before), and is forgotten where
-- nothing has changed for as long as the database may need.
local function days_of(user, day, first, today, earlier)
  local rows, found = redis.call('HGETALL', prefix .. 'days:' .. user), {}
  for i = 1, #rows, 2 do found[rows[i]] = tonumber(rows[i + 1]) end
  if #rows == 0 then
    return day and {day = day, first = first, today = today, earlier = earlier, since = second}
  end
  if day and day > found.day then
    found.earlier = first <= found.day and found.earlier + found.today or 0
    found.day, found.first, found.today = day, first, 0
  end
  return found
end
-- Of what happened at `at`, before the count began anew, nobody can say whether it is in it: it begins anew once more.
local function use(user, at, day, change, ...)
  local key, found = prefix .. 'days:' .. user, days_of(user, ...)
  if not found then return end
  if at + settings.seen_by_all < found.since or day > found.day then
    redis.call('DEL', key)
    return
  end
  if day == found.day then
    found.today = found.today + change
  elseif day >= found.first then
    found.earlier = found.earlier + change
  end
  for field, value in pairs(found) do redis.call('HSET', key, field, value) end
  redis.call('EXPIRE', key, settings.days_kept)
  counted[#counted + 1] = {'days:', user, day, change}
  return found
end

-- A member that joins tells anew what it counted since its last answer. If the store did count that, and only the answer
-- was late, it is taken back here. A join that a later one has overtaken is void.
local record = prefix .. 'counted:' .. member
local function take_back_unanswered()
  if redis.call('HGET', record, 'process') ~= process then
    redis.call('DEL', record)
    return true
  end
  local last = tonumber(redis.call('HGET', record, 'number'))
  if last > number then return false end
  if last > answered then
    for _, one in ipairs(cjson.decode(redis.call('HGET', record, 'counted'))) do
      if one[1] == 'days:' then use(one[2], second, one[3], -one[4]) else add(one[1], one[2], one[3], -one[4]) end
    end
    counted = {}
  end
  return true
end

-- A new store, or one that forgot: until every member has come back nothing is known to be free. Those that know how
-- many they were say so as they come; where nobody does within `settle`, there is nobody.
-- Such a store knows no fence, so a member joins before it asks anything else.
local unsettled, joins = prefix .. 'settling', fence == ''
if joins and redis.call('SET', prefix .. 'epoch', now, 'NX') then
  redis.call('HSET', unsettled, '', now)
  redis.call('PEXPIRE', unsettled, settings.lease)
end
local function settles()
  local rows, back, expected, since = redis.call('HGETALL', unsettled), 0, 0, now
  if #rows == 0 then return false end
  for i = 1, #rows, 2 do
    local number = tonumber(rows[i + 1])
    if rows[i] == '' then since = number else back, expected = back + 1, math.max(expected, number) end
  end
  if expected > back or (expected == 0 and now - since < settings.settle) then return true end
  redis.call('DEL', unsettled)
  return false
end
local settling = settles()

local lease = tonumber(redis.call('ZSCORE', members, member))
if joins then
  if not take_back_unanswered() then return cjson.encode({ok = false, now = now}) end
  drop(member)
  fence = clock[1] .. '-' .. redis.call('INCR', prefix .. 'fence')
  redis.call('HSET', fences, member, fence)
elseif not lease or redis.call('HGET', fences, member) ~= fence then
  return cjson.encode({ok = false, now = now})
end
-- Leases are renewed, and others' ended, with each look and else ten times a second: not with every request.
if joins or look or lease - settings.lease + settings.renewal <= now then
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', members, '-inf', now)) do
    if gone ~= member then drop(gone) end
  end
  redis.call('ZADD', members, now + settings.lease, member)
end

local run = {
  take = function(scope, name, number) take(scope, name, number) end,
  give = function(scope, name)
    if count(prefix .. 'by:' .. member, scope .. ':' .. name, -1) < 0 then return end
    count(sums(scope), name, -1)
    if scope == 'server' then freed[#freed + 1] = name end
  end,
  claim = function(scope, name, limit, since)
    local held = total(scope, name)
    if scope == 'server' and limit_of(name) ~= limit then redis.call('HSET', limits, name, limit) end
    local before = since and earlier_elsewhere(name, since) or reserved_elsewhere(name)
    if settling or held + before >= limit then return {false, held - own(scope, name)} end
    local mine, all = take(scope, name, 1)
    if since then redis.call('HDEL', prefix .. 'by:' .. member, 'head:' .. name) end -- this member has had its turn
    return {true, all - mine}
  end,
  -- A limit cannot wait for a store to settle: who knew the group goes by its share, a newcomer by what is counted here.
  count = function(user, concurrent, per_minute, knew_the_group)
    local rows, admitted = minute('minute:', user)
    local free = not (settling and knew_the_group) and (concurrent < 0 or total('user', user) < concurrent)
    free = free and (per_minute < 0 or admitted < per_minute)
    if free then
      take('user', user, 1)
      admit(user, second, 1)
      rows[tostring(second)] = (rows[tostring(second)] or 0) + 1
    end
    return {free, total('user', user) - own('user', user), second, rows}
  end,
  -- An empty minute has room for a request of any size (`room_for`).
  charge = function(user, tokens, knew_the_group, per_minute, per_day, per_month, ...)
    local free, rows, days = not (settling and knew_the_group), {}, nil
    if per_minute >= 0 then
      local used
      rows, used = minute('tokens:', user)
      free = free and (used + tokens <= per_minute or (per_minute > 0 and used == 0))
    end
    if ... then
      days = days_of(user, ...)
      free = free and (per_day < 0 or days.today < per_day)
      free = free and (per_month < 0 or days.today + days.earlier < per_month)
    end
    if free and per_minute >= 0 then
      spend(user, second, tokens)
      rows[tostring(second)] = (rows[tostring(second)] or 0) + tokens
    end
    if free and days then days = use(user, second, (...), tokens, ...) end
    return {free, second, rows, days and {days.day, days.today, days.earlier} or false}
  end,
  spend = spend,
  use = use,
  count_of = function(user)
    local rows, tokens = minute('minute:', user), minute('tokens:', user)
    return {total('user', user) - own('user', user), rows, tokens}
  end,
  expect = function(number)
    if redis.call('EXISTS', unsettled) == 1 then redis.call('HSET', unsettled, member, number) end
  end,
  admit = admit,
  wait = function(since)
    if since < 0 then redis.call('HDEL', waiting, member) else redis.call('HSET', waiting, member, since) end
  end,
  head = function(server, since)
    local key, before = prefix .. 'by:' .. member, head_of(member, server)
    if since < 0 then redis.call('HDEL', key, 'head:' .. server) else redis.call('HSET', key, 'head:' .. server, since) end
    if before and (since < 0 or since > before) then left[#left + 1] = {server, before} end -- without its turn
  end,
  drain = function(server, on)
    redis.call('HSET', prefix .. 'drains', server, on and '1' or '0')
    drained = true
  end,
  -- A process numbers its news, and tells again those of which it does not know whether they arrived.
  tell = function(text, at)
    if tonumber(redis.call('HGET', record, 'told') or 0) >= at then return end
    redis.call('XADD', prefix .. 'news', 'MAXLEN', 1024, '*', 'm', member, 'd', text)
    redis.call('HSET', record, 'told', at)
    redis.call('EXPIRE', record, 120)
  end,
  -- By format, as routers of two releases may be there at once, with the last news that are in it. What nobody renews
  -- for ten minutes is out of date.
  remember = function(format, text)
    redis.call('HSET', prefix .. 'summary', format, text, 'heard:' .. format, heard)
    redis.call('EXPIRE', prefix .. 'summary', 600)
  end,
  leave = function() drop(member) end,
}
local results = {}
for index, operation in ipairs(operations) do
  results[index] = run[operation[1]](unpack(operation, 2)) or false
end
if joins or #counted > 0 then
  redis.call('HSET', record, 'process', process, 'number', number, 'counted', cjson.encode(counted))
  redis.call('EXPIRE', record, 120)
end

-- Who waits is told of a free slot: the member whose first for that server has waited longest; where none waits for it,
-- all that wait, as they may want it by now. Who was told is told nothing more until it has looked. What this member frees
-- it sees itself.
if look then redis.call('HDEL', stirred, member) end
local function stir(other)
  redis.call('HSET', stirred, other, 1)
  if other ~= member then redis.call('PUBLISH', prefix .. 'stirred:' .. other, '') end
end
local function stir_for(names)
  local line = redis.call('HGETALL', waiting)
  if #line == 0 then return end
  local told, untold, rows = {}, {}, redis.call('HGETALL', stirred)
  for i = 1, #rows, 2 do told[rows[i]] = true end
  for i = 1, #line, 2 do
    if not told[line[i]] and awake(line[i]) then untold[#untold + 1] = line[i] end
  end
  for _, name in ipairs(names) do
    if #untold == 0 then return end
    local next_one, longest
    for index, other in ipairs(untold) do
      local head = head_of(other, name)
      if head and (not longest or head < longest) then next_one, longest = index, head end
    end
    if next_one then
      stir(table.remove(untold, next_one))
    else
      for _, other in ipairs(untold) do stir(other) end
      untold = {}
    end
  end
end
-- As many of the line as there are free slots have one left to them. Where one of these is that no more, the next is.
local function stir_next(server, before)
  local limit, heads, line = limit_of(server), {}, redis.call('HGETALL', waiting)
  local free = limit and limit - total('server', server) or 1
  if free <= 0 then return end
  for i = 1, #line, 2 do
    local head = awake(line[i]) and head_of(line[i], server)
    if head then heads[#heads + 1] = {head, line[i]} end
  end
  table.sort(heads, function(one, other) return one[1] < other[1] end)
  local next_one = heads[free]
  if not next_one or next_one[1] <= before or next_one[2] == member then return end
  if not redis.call('HGET', stirred, next_one[2]) then stir(next_one[2]) end
end
if lost then stir_for({''}) elseif #freed > 0 then stir_for(freed) end
for _, one in ipairs(left) do stir_next(unpack(one)) end
if drained then redis.call('PUBLISH', prefix .. 'drained', member) end

local answer = {ok = true, now = now, fence = fence, settling = settling, results = results}
if not look then
  local line = redis.call('HGETALL', waiting)
  for i = 1, #line, 2 do
    if line[i] ~= member and awake(line[i]) then answer.others_wait = true end
  end
  return cjson.encode(answer)
end

local elsewhere, mine, held = {}, {}, redis.call('HGETALL', prefix .. 'by:' .. member)
for i = 1, #held, 2 do mine[held[i]] = tonumber(held[i + 1]) end
for _, scope in ipairs({'server', 'user', 'reserved'}) do
  local rows, found = redis.call('HGETALL', sums(scope)), {}
  for i = 1, #rows, 2 do
    local others = tonumber(rows[i + 1]) - (mine[scope .. ':' .. rows[i]] or 0)
    if others > 0 then found[rows[i]] = others end
  end
  elsewhere[scope] = found
end
local line, rows = {}, redis.call('HGETALL', waiting)
for i = 1, #rows, 2 do
  if awake(rows[i]) then line[rows[i]] = tonumber(rows[i + 1]) end
end
local drains = {}
rows = redis.call('HGETALL', prefix .. 'drains')
for i = 1, #rows, 2 do drains[rows[i]] = rows[i + 1] == '1' end
if heard == '' then
  answer.summary = redis.call('HGET', prefix .. 'summary', settings.format)
  heard = answer.summary and redis.call('HGET', prefix .. 'summary', 'heard:' .. settings.format) or ''
end
local news, last = {}, heard
if heard == '' then
  local newest = redis.call('XREVRANGE', prefix .. 'news', '+', '-', 'COUNT', 1)
  last = newest[1] and newest[1][1] or '0-0'
else
  for _, entry in ipairs(redis.call('XRANGE', prefix .. 'news', '(' .. heard, '+')) do
    last = entry[1]
    if entry[2][2] ~= member then news[#news + 1] = entry[2][4] end
  end
end
local all, rank = redis.call('ZRANGE', members, 0, -1), 0
for _, other in ipairs(all) do
  if other < member then rank = rank + 1 end
end
answer.members, answer.rank = #all, rank
answer.elsewhere, answer.waiting, answer.drains, answer.news, answer.last = elsewhere, line, drains, news, last
return cjson.encode(answer)
