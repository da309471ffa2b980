-- Finds the generation of a partition, or begins the next: one incarnation of the primary behind it.
-- The identity is read here, inside the server, so it speaks for the one that keeps the hash.
--
-- KEYS[1]  the partition's hash: g generation, id identity of the primary, seed, partitions
-- ARGV[1]  a random seed, kept where there is none
-- ARGV[2]  the number of partitions, kept where there is none
--
-- Answers {'OK', generation, identity, number of partitions as stored} or {'REPLICA'}
local server = redis.call('INFO', 'server')
local replication = redis.call('INFO', 'replication')
if not string.find(replication, 'role:master', 1, true) then
  return {'REPLICA'}
end
local run = string.match(server, 'run_id:(%x+)') or ''
local replid = string.match(replication, 'master_replid:(%x+)') or ''
local id = redis.sha1hex(run .. replid)

local stored = redis.call('HMGET', KEYS[1], 'g', 'id', 'seed', 'partitions')
local generation, seed, partitions = stored[1], stored[3] or ARGV[1], stored[4] or ARGV[2]
if generation and stored[2] == id and stored[3] and stored[4] then
  return {'OK', generation, id, partitions}
end

local last = tonumber(string.sub(generation or '0', 1, 8), 36) or 0
local time = redis.call('TIME')
local number = math.max(last + 1, tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local digits = ''
for _ = 1, 8 do
  local digit = number % 36
  digits = string.sub('0123456789abcdefghijklmnopqrstuvwxyz', digit + 1, digit + 1) .. digits
  number = (number - digit) / 36
end
generation = digits .. string.sub(id, 1, 4)
redis.call('HSET', KEYS[1], 'g', generation, 'id', id, 'seed', seed, 'partitions', partitions)
return {'OK', generation, id, partitions}
