-- Put before every script of this folder.
-- KEYS[1]: the partition's generation hash (g, id, seed).
-- ARGV[1]: the generation that the calling connection found in its handshake.
-- Answers {'STALE', generation} where they differ: the primary was replaced unnoticed, or left.
local generation = ARGV[1]
local current = redis.call('HGET', KEYS[1], 'g')
if current ~= generation then return {'STALE', current or ''} end
local clock = redis.call('TIME')
-- Unix ms.
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

