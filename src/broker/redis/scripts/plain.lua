-- Publications without id, key, guard and state, each whole or not at all and on its own: the
-- common case of `publish.lua` at half its cost, several in one step. Each channel must be as its
-- last publication left it, by this generation, with nothing of it due. Where one is not, nothing
-- is done for it nor for those behind it in the same channel: they are for `publish.lua`.
-- KEYS: 2, 3: meta and log of the first, which is announced under the name of its log; 4, 5: of
--   the second; ...
-- ARGV: 2: PUBLISH or SPUBLISH; 3, 4: what its channel keeps (see `keep` in channel.lua) and the
--   data of the first; 5, 6: of the second; ...
-- Answers {'OK', one for each}: `offset epoch`, '' where it is for `publish.lua`, or the error of
-- the write.
local call = redis.call
local answers, left = {'OK'}, {}
for item = 2, #KEYS, 2 do
  local META, LOG, keeps, data = KEYS[item], KEYS[item + 1], ARGV[item + 1], ARGV[item + 2]
  local meta = call('HMGET', META, 'last', 'ts', 'epoch', 'keeps', 'care')
  local last, ts, epoch = tonumber(meta[1]), tonumber(meta[2]), meta[3]
  local answer = ''
  -- An epoch is a life of 10 characters, the generation of 12, and more.
  if last and last > 0 and ts and epoch and meta[4] == keeps and not left[META]
    and string.sub(epoch, 12, 23) == generation and now < (tonumber(meta[5]) or 0) then
    -- Numbers as texts: Redis writes a Lua number several times slower.
    local offset = string.format('%d', last + 1)
    local when = string.format('%d', now > ts and now or ts)
    local size = string.match(keeps, '^%d+')
    local added = size == '0' or redis.pcall('XADD', LOG, 'NOMKSTREAM', 'MAXLEN', '~', size,
      offset .. '-0', 't', when, 'd', data)
    -- A stream that is missing, ahead or refused is not common: nothing was written.
    if added and type(added) ~= 'table' then
      local counted = redis.pcall('HSET', META, 'last', offset, 'ts', when)
      if type(counted) == 'table' then
        answer = counted
      else
        call(ARGV[2], LOG, 'append ' .. offset .. ' ' .. when .. ' ' .. epoch .. '\n' .. data)
        answer = offset .. ' ' .. epoch
      end
    end
  end
  if answer == '' then left[META] = true end
  answers[item / 2 + 1] = answer
end
return answers
