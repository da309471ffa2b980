-- Names of the channels of one partition in their order; writes nothing. A name may outlive its
-- channel: heads tell.
-- KEYS: 2: names.
-- ARGV: 2: lower bound, 3: upper bound (as ZRANGEBYLEX takes them), 4: most names.
-- Answers {'OK', name, …}.
local found = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[2], ARGV[3], 'LIMIT', 0, ARGV[4])
return {'OK', unpack(found)}
