// The published client `node-etcd`, which speaks v2: the same cases against etcd 3.4 and Quorate.
'use strict';

const { test } = require('node:test');

const Etcd = require('node-etcd');

const { both, eventually } = require('./harness.js');

/** A client whose calls are promises of what it got: the error, the body, and the headers that v2 adds. */
function connect(side, auth) {
  const client = new Etcd(side.servers.map(server => `http://${server.endpoint}`), { timeout: 15_000, auth });
  const ask = (name, ...words) => new Promise(resolve => {
    client[name](...words, (error, body, headers) => resolve({ error, body, headers }));
  });
  return { client, ask };
}

/** What is the same with every server: no addresses, no clocks, no ids. */
function plain(side, { error, body, headers = {} }) {
  const names = new Map(side.servers.flatMap(({ endpoint, peer }) => [[`http://${endpoint}`, 'CLIENT'], [`http://${peer}`, 'PEER']]));
  const clean = value => {
    if (Array.isArray(value)) return value.map(clean);
    if (value === null || typeof value !== 'object') return names.get(value) ?? value;
    const kept = Object.entries(value).filter(([key]) => !['expiration', 'ttl', 'id'].includes(key));
    return Object.fromEntries(kept.map(([key, inner]) => [key, clean(inner)]));
  };
  const failure = error && { code: error.errorCode, message: error.message, told: clean(error.error) };
  const known = ['content-type', 'x-etcd-index'].map(name => headers[name]);
  return { failure, body: clean(body), known, identified: 'x-etcd-cluster-id' in headers };
}

/** Waits until the member is at the index of a fresh one. */
async function fresh(side) {
  const { ask } = connect(side);
  await eventually('index 3', async () => (await ask('get', '/')).headers?.['x-etcd-index'] === '3');
}

test('keys', () => both(1, async side => {
  await fresh(side);
  const { ask } = connect(side);
  const calls = [
    ['set', 'a', '1'], ['set', '/a', '2', { ttl: 100 }], ['set', 'a', '3', { prevExist: false }], ['get', 'a'], ['get', 'none'],
    ['set', 'a', '3', { prevIndex: 5 }], ['set', 'a', '3', { prevIndex: 1 }], ['set', 'a', 'x', { ttl: 'x' }],
    ['compareAndSwap', 'a', '4', '3'], ['testAndSet', 'a', '4', '3'], ['mkdir', 'd'], ['mkdir', 'd', { ttl: 100 }],
    ['set', 'd', 'x'], ['set', 'd/e/f', '\u00fc<&>"'], ['set', 'a/b', 'x'], ['set', 'd/_h', 'x'], ['set', '/', 'x'],
    ['create', 'q', '1'], ['post', 'q', '2', { ttl: 100 }], ['create', 'a', 'x'], ['get', '/', { recursive: true, sorted: true }],
    ['get', 'd', { quorum: true }], ['set', 'a', '5', { noValueOnSuccess: true }], ['set', 'a', null, { refresh: true, ttl: 100 }],
    ['rmdir', 'd'], ['del', 'd'], ['del', 'd', { recursive: true }], ['delete', 'none'], ['compareAndDelete', 'a', '9'],
    ['testAndDelete', 'a', '5'], ['rmdir', 'd'], ['get', 'x', { wait: 'x' }],
    ['watchIndex', 'a', 4], ['watchIndex', '/', 7, { recursive: true }], ['watchIndex', 'd', 9, { recursive: true }],
    ['raw', 'GET', 'v2/machines', null, {}], ['raw', 'GET', 'v2/members', null, {}], ['raw', 'GET', 'v2/none', null, {}],
    ['raw', 'PATCH', 'v2/keys/a', 'x', {}], ['machines'], ['leader'],
  ];
  for (const call of calls) side.note(call.join(' '), plain(side, await ask(...call)));
  for (const page of ['leaderStats', 'selfStats']) {
    side.note(page, Object.keys((await ask(page)).body).filter(key => !key.endsWith('Rate')));
  }
}, { v2: true }));

test('watchers', () => both(1, async side => {
  await fresh(side);
  const { client, ask } = connect(side);
  const { headers } = await ask('set', 'w/first', '0');
  const seen = [];
  const watcher = client.watcher('w', Number(headers['x-etcd-index']) + 1, { recursive: true });
  watcher.on('change', body => seen.push(plain(side, { body })));
  await ask('set', 'w/a', '1');
  await ask('set', 'w/a', '2', { ttl: 1 });
  await eventually('the end of a time to live', () => seen.length >= 3);
  await ask('set', 'w/_hidden', 'x');
  await ask('mkdir', 'w/d');
  await ask('rmdir', 'w/d');
  await eventually('all events', () => seen.length >= 5);
  watcher.stop();
  side.note('events', seen);
}, { v2: true }));

test('users', () => both(1, async side => {
  await fresh(side);
  const { ask } = connect(side);
  const put = (path, document) => ask('raw', 'PUT', `v2/auth/${path}`, null, { json: document, form: undefined });
  side.note('role', plain(side, await put('roles/r', { role: 'r', permissions: { kv: { read: ['/r/*'], write: [] } } })));
  side.note('user', plain(side, await put('users/u', { user: 'u', password: 'pw', roles: ['r'] })));
  side.note('root', plain(side, await put('users/root', { user: 'root', password: 'rootpw' })));
  await ask('set', 'r/a', '1');
  side.note('enable', plain(side, await ask('raw', 'PUT', 'v2/auth/enable', null, {})));
  await put('roles/guest', {});
  for (const auth of [undefined, { user: 'u', pass: 'pw' }, { user: 'u', pass: 'x' }, { user: 'root', pass: 'rootpw' }]) {
    const other = connect(side, auth);
    for (const call of [['get', 'r/a'], ['set', 'r/a', '2'], ['get', 'none'], ['raw', 'GET', 'v2/auth/users', null, {}]]) {
      side.note(`${auth?.user} ${auth?.pass} ${call}`, plain(side, await other.ask(...call)));
    }
  }
}, { v2: true }));
