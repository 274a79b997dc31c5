// The published client `etcd3` of Node: the same cases against etcd and Quorate, and the same to be seen.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { test } = require('node:test');

const { both, eventually, within, READY_LIMIT } = require('./harness.js');

/** Records how a call that must fail does. */
async function refused(side, asked, call) {
  let answer;
  try {
    answer = await call();
  } catch (error) {
    return side.note(asked, [error.constructor.name, error.message]);
  }
  throw new Error(`${asked} was answered: ${JSON.stringify(answer)}`);
}

/** A key with its value and revisions. */
function shown(kv) {
  return kv && [kv.key.toString('latin1'), kv.value.toString('latin1'), kv.create_revision, kv.mod_revision, kv.version];
}

function list(answer) {
  return { kvs: answer.kvs.map(shown), more: answer.more, count: answer.count };
}

/** Collects the events of a watcher; take waits for the next ones. */
function events(watcher) {
  const seen = [];
  watcher.on('put', (kv, previous) => seen.push(['put', ...shown(kv), shown(previous)]));
  watcher.on('delete', (kv, previous) => seen.push(['delete', ...shown(kv), shown(previous)]));
  const take = async count => {
    await eventually(`${count} events`, () => seen.length >= count);
    return seen.splice(0, count);
  };
  return { seen, take };
}

test('keys', () => both(1, async (side, client) => {
  side.note('put', (await client.put('kv/a').value('1')).header.revision);
  side.note('put again', shown(await client.put('kv/a').value('2').getPrevious()));
  await client.put('kv/b').value(Buffer.from([0, 255, 10]));
  await client.put('kv/c').value('');
  await client.put('kv/n').value(42);
  side.note('get', [await client.get('kv/a'), await client.get('kv/c'), await client.get('kv/none')]);
  side.note('forms', [await client.get('kv/n').number(), await client.get('kv/b').buffer(), await client.get('kv/a').exists()]);
  side.note('touch', (await client.put('kv/a').touch()).header.revision);
  for (const target of ['Key', 'Version', 'Create', 'Mod', 'Value']) {
    for (const order of ['Ascend', 'Descend']) {
      side.note(`${order} ${target}`, list(await client.getAll().prefix('kv/').sort(target, order).limit(3).exec()));
    }
  }
  side.note('all', await client.getAll().strings());
  side.note('keys', await client.getAll().prefix('kv/').keys());
  side.note('count', await client.getAll().inRange({ start: 'kv/a', end: 'kv/c' }).count());
  side.note('older', list(await client.getAll().prefix('kv/').revision(3).exec()));
  side.note('own copy', list(await client.getAll().prefix('kv/').serializable(true).exec()));
  side.note('by revision', [
    list(await client.getAll().prefix('kv/').minModRevision(4).exec()),
    list(await client.getAll().prefix('kv/').maxModRevision(4).exec()),
    list(await client.getAll().prefix('kv/').minCreateRevision(4).exec()),
    list(await client.getAll().prefix('kv/').maxCreateRevision(4).exec()),
  ]);
  const space = client.namespace('space/');
  await space.put('a').value('within');
  side.note('namespace', [await space.get('a'), await client.get('space/a'), await space.getAll().strings()]);
  side.note('delete', (await client.delete().key('kv/a').getPrevious()).map(shown));
  side.note('deleted', [(await client.delete().key('kv/a')).deleted, (await client.delete().prefix('kv/')).deleted]);
  assert.equal(side.note('all deleted', (await client.delete().all()).deleted), '1');
}));

test('transactions', () => both(1, async (side, client) => {
  await client.put('a').value('1');
  const ask = async (name, transaction) => {
    const answer = await transaction.commit();
    const responses = answer.responses.map(({ response, response_range: range }) => [response, range && list(range)]);
    side.note(name, [answer.succeeded, answer.header.revision, responses]);
    return answer.succeeded;
  };
  const when = value => client.if('a', 'Value', '==', value);
  assert.ok(await ask('then', when('1').then(client.put('b').value('b'), client.get('b')).else(client.get('a'))));
  assert.ok(!await ask('else', when('2').then(client.put('b').value('x')).else(client.get('a'), client.getAll().prefix(''))));
  const kinds = client.if('a', 'Version', '>', 0).and('a', 'Create', '<', 3).and('a', 'Mod', '==', 2).and('a', 'Value', '!=', '9');
  assert.ok(await ask('all comparisons', kinds.then(client.delete().key('a'))));
  assert.ok(await ask('gone', client.if('a', 'Create', '==', 0).then(client.put('a').value('2'))));
  assert.ok(await ask('no lease', client.if('a', 'Lease', '==', 0).then(client.get('a'))));
  await refused(side, 'a key twice', () => when('2').then(client.put('a').value('1'), client.put('a').value('2')).commit());
  await client.stm().transact(async tx => {
    const value = await tx.get('a');
    await tx.put('a').value(value + value);
  });
  side.note('software transaction', await client.get('a'));
}));

test('watches', () => both(1, async (side, client) => {
  const one = await client.watch().key('a').withPreviousKV().create();
  const many = await client.watch().prefix('').create();
  const [ofOne, ofMany] = [events(one), events(many)];
  await client.put('a').value('1');
  await client.put('b').value('2');
  await client.put('a').value('3');
  await client.delete().key('a');
  const lease = client.lease(60);
  await lease.put('c').value('4');
  await lease.revoke();
  side.note('one key', await ofOne.take(3));
  side.note('prefix', await ofMany.take(6));
  const history = client.watch().prefix('').startRevision(3).withPreviousKV().watcher();
  assert.equal(side.note('history', await events(history).take(5)).length, 5);
  const puts = client.watch().prefix('').startRevision(2).only('put').watcher();
  const deletes = client.watch().prefix('').startRevision(2).only('delete').watcher();
  const [ofPuts, ofDeletes] = [events(puts), events(deletes)];
  side.note('puts', await ofPuts.take(4));
  side.note('deletes', await ofDeletes.take(2));
  await one.cancel();
  await client.put('a').value('5');
  side.note('the other watch', await ofMany.take(1));
  side.note('after cancel', ofOne.seen);
  await client.kv.compact({ revision: 5 });
  const compacted = client.watch().key('a').startRevision(2).watcher();
  const [error] = await within(READY_LIMIT, 'the refusal', once(compacted, 'error'));
  side.note('compacted', [error.constructor.name, error.message]);
  for (const watcher of [many, history, puts, deletes]) await watcher.cancel();
}));

test('a watch goes on through a restart', () => both(1, async (side, client) => {
  const watcher = await client.watch().prefix('').create();
  const { take } = events(watcher);
  await client.put('a').value('1');
  side.note('before', await take(1));
  const broken = once(watcher, 'disconnected');
  await side.server.kill();
  await within(READY_LIMIT, 'the break', broken);
  const whole = once(watcher, 'connected');
  side.server.start();
  await side.server.awaitReady();
  await eventually('the client reaches the server', () => client.put('b').value('2').then(() => true, () => false));
  side.note('what was missed', await take(1));
  await within(READY_LIMIT, 'the return', whole);
  await client.delete().prefix('');
  side.note('what comes then', await take(2));
  await watcher.cancel();
}));

test('a client of three members goes on without the one it is connected to', () => both(3, async (side, client) => {
  const watcher = await client.watch().prefix('').create();
  const { take } = events(watcher);
  await client.put('a').value('1');
  await take(1);
  // What is asked while there is no leader is given up soon, and asked again; it may have been done all the same.
  const make = key => client.if(key, 'Create', '==', 0).then(client.put(key).value('2'))
    .options({ deadline: Date.now() + 500 }).commit().then(() => true, () => false);
  for (const server of side.servers) {
    await server.kill();
    await eventually(`a put without ${server.name}`, () => make(server.name));
    side.note(`without ${server.name}`, await take(1));
    server.start(server.cluster);
    await server.awaitReady();
  }
  side.note('all', await client.getAll().keys());
  await watcher.cancel();
}));

test('leases', () => both(1, async (side, client) => {
  const lease = client.lease(100, { autoKeepAlive: false });
  await lease.put('a').value('1');
  await client.put('b').value('1').lease(await lease.grant());
  const left = await client.leaseClient.leaseTimeToLive({ ID: await lease.grant(), keys: true });
  side.note('granted', [left.grantedTTL, Number(left.TTL) > 90 && Number(left.TTL) <= 100, left.keys.map(String).sort()]);
  side.note('kept alive', (await lease.keepaliveOnce()).TTL);
  await client.put('b').value('2').ignoreLease();
  await lease.revoke();
  side.note('revoked', [await client.get('a'), await client.get('b')]);
  const id = await lease.grant();
  await refused(side, 'revoked again', () => client.leaseClient.leaseRevoke({ ID: id }));
  await refused(side, 'put with none', () => client.put('a').value('1').lease(id));
  await refused(side, 'kept alive when gone', async () => {
    const gone = client.lease(100, { autoKeepAlive: false });
    await client.leaseClient.leaseRevoke({ ID: await gone.grant() });
    await gone.keepaliveOnce().catch(error => {
      throw new error.constructor(String(error.message).replace(/\d+/, 'ID'));
    });
  });
  const gone = await client.leaseClient.leaseTimeToLive({ ID: id, keys: true });
  side.note('time to live of none', [gone.TTL, gone.grantedTTL, gone.keys]);
  side.note('leases', (await client.leaseClient.leaseLeases()).leases.length);
  await refused(side, 'too long', () => client.lease(10_000_000_000).grant());
}));

test('leases end when nobody keeps them', () => both(1, async (side, client) => {
  const watcher = await client.watch().prefix('').only('delete').create();
  const { take } = events(watcher);
  const [kept, left] = [client.lease(1), client.lease(1, { autoKeepAlive: false })];
  await kept.put('kept').value('1');
  await left.put('left').value('1');
  side.note('left', await take(1));
  side.note('kept', await client.get('kept'));
  const lost = once(kept, 'lost');
  await client.leaseClient.leaseRevoke({ ID: await kept.grant() });
  const [error] = await within(READY_LIMIT, 'the loss', lost);
  side.note('lost', error.constructor.name);
  side.note('ended', await take(1));
  await watcher.cancel();
}));

test('a lease lives through a restart', () => both(1, async (side, client) => {
  const [kept, left] = [client.lease(3), client.lease(3, { autoKeepAlive: false })];
  await kept.put('kept').value('1');
  await left.put('left').value('1');
  await side.server.restart();
  const gone = () => client.get('left').then(value => value === null, () => false);
  await eventually('the end of the lease that nobody keeps', gone);
  side.note('kept', [await client.get('kept'), kept.revoked()]);
  await kept.revoke();
}));

test('locks', () => both(1, async (side, client) => {
  const other = side.connect();
  const lock = client.lock('lock');
  await lock.ttl(60).acquire();
  side.note('taken', await client.get('lock').exists());
  await refused(side, 'taken by another', () => other.lock('lock').acquire());
  await lock.release();
  side.note('within', await other.lock('lock').do(() => client.get('lock').exists()));
  side.note('released', await client.get('lock').exists());
  const dead = client.lock('lock').ttl(1);
  await dead.acquire();
  dead.lease.release();
  const mine = other.lock('lock');
  await eventually('the lock ends with its lease', () => mine.acquire().then(() => true, () => false));
  side.note('after its end', await client.get('lock').exists());
  await mine.release();
}));

test('elections', () => both(1, async (side, client) => {
  const other = side.connect();
  const election = client.election('vote', 60);
  side.note('nobody', await election.leader());
  const first = election.campaign('one');
  await within(READY_LIMIT, 'the first', first.wait());
  side.note('first', await election.leader());
  const changes = [];
  const observer = await election.observe();
  observer.on('change', leader => changes.push(leader));
  const second = other.election('vote', 60).campaign('two');
  const waits = second.wait();
  await eventually('the second waits', async () => (await client.getAll().prefix('election/vote/').count()) === 2);
  await first.proclaim('again');
  side.note('proclaimed', await election.leader());
  await eventually('the word of it', () => changes.includes('again'));
  await first.resign();
  await within(READY_LIMIT, 'the second', waits);
  side.note('second', await election.leader());
  await eventually('the news of the second', () => changes.includes('two'));
  side.note('changes', changes.filter(change => change !== undefined));
  await refused(side, 'proclaimed by who resigned', () => first.proclaim('more'));
  await observer.cancel();
  await second.resign();
}));

test('users', () => both(1, async (side, client) => {
  await client.put('mine/a').value('1');
  await client.put('theirs/a').value('1');
  await refused(side, 'enabled without root', () => client.auth.authEnable());
  for (const name of ['root', 'user']) {
    const role = await client.role(name).create();
    const user = await client.user(name).create(`${name}-password`);
    await user.addRole(role);
  }
  await refused(side, 'a user twice', () => client.user('user').create('x'));
  await refused(side, 'a role twice', () => client.role('user').create());
  await refused(side, 'no such role', () => client.user('user').addRole('none'));
  await refused(side, 'no such user', () => client.user('none').delete());
  await client.role('user').grant([
    { permission: 'Readwrite', range: client.range({ prefix: 'mine/' }) }, { permission: 'Read', key: 'read' },
  ]);
  const permissions = await client.role('user').permissions();
  side.note('permissions', permissions.map(({ permission, range }) => [permission, String(range.start), String(range.end)]));
  await client.auth.authEnable();
  const login = (username, password = `${username}-password`) => side.connect({ auth: { username, password } });
  await refused(side, 'nobody', () => client.get('mine/a').string());
  await refused(side, 'a wrong password', () => login('user', 'wrong').get('mine/a').string());
  await refused(side, 'an unknown user', () => login('none').get('mine/a').string());
  const [user, root] = [login('user'), login('root')];
  await user.put('mine/b').value('2');
  side.note('permitted', [await user.getAll().prefix('mine/').strings(), await user.get('read')]);
  await refused(side, "another's key", () => user.get('theirs/a').string());
  await refused(side, 'a put where only reads are permitted', () => user.put('read').value('1').exec());
  await refused(side, 'a prefix beyond', () => user.getAll().prefix('m').exec());
  await refused(side, 'all', () => user.getAll().exec());
  await refused(side, 'a transaction beyond', () => user.if('mine/a', 'Value', '==', '1').then(user.put('theirs/a').value('x')).commit());
  await refused(side, 'a new user by a user', () => user.user('third').create('x'));
  const watcher = user.watch().key('mine/a').startRevision(1).watcher();
  side.note('watch', await events(watcher).take(1));
  await watcher.cancel();
  await root.put('read').value('9');
  side.note('root', [await root.get('theirs/a'), await user.get('read')]);
  await root.user('user').setPassword('another');
  await refused(side, 'the old password', () => login('user').get('mine/a').string());
  side.note('the new password', await login('user', 'another').get('mine/a'));
  await root.user('user').removeRole('user');
  await refused(side, 'without the role', () => login('user', 'another').get('mine/a').string());
  side.note('listed', [(await root.getUsers()).map(({ name }) => name), (await root.getRoles()).map(({ name }) => name)]);
  await root.auth.authDisable();
  side.note('nobody, when disabled', await client.get('mine/a'));
}));

test('refusals', () => both(1, async (side, client) => {
  await refused(side, 'empty key', () => client.put('').value('1').exec());
  await refused(side, 'empty key read', () => client.get('').exec());
  await refused(side, 'empty key deleted', () => client.delete().key('').exec());
  await refused(side, 'large', () => client.put('k').value('x'.repeat(1_600_000)).exec());
  await refused(side, 'lease', () => client.put('k').value('1').lease(4711).exec());
  for (let n = 0; n < 5; n += 1) await client.put('k').value(n);
  await client.kv.compact({ revision: 4, physical: true });
  await refused(side, 'compacted again', () => client.kv.compact({ revision: 4 }));
  await refused(side, 'compacted in the future', () => client.kv.compact({ revision: 100 }));
  await refused(side, 'compacted revision', () => client.get('k').revision(3).exec());
  await refused(side, 'future revision', () => client.get('k').revision(100).exec());
  side.note('older revision', await client.get('k').revision(5).number());
}));

test('maintenance', () => both(1, async (side, client) => {
  await client.put('k').value('1');
  const status = await client.maintenance.status();
  const { members } = await client.cluster.memberList({});
  side.note('status', [status.version, status.leader === members[0].ID, members.map(({ name }) => name)]);
  await client.maintenance.defragment();
  side.note('alarms', (await client.maintenance.alarm({ action: 'Get' })).alarms);
  const stream = await client.maintenance.snapshot();
  let size = 0;
  stream.on('data', part => { size += part.blob.length; });
  await within(READY_LIMIT, 'the snapshot', once(stream, 'end'));
  side.note('snapshot', size % 512);
}));
