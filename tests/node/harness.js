// Starts servers of both kinds, runs the same case against both at the same time, and compares what the client saw.
//
// It owns processes, their addresses, folders and logs, and the comparison; what is asked is the tests' part. A process
// started here never outlives this one (the kernel sees to it), and every wait has a deadline.
'use strict';

const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { setTimeout: pause } = require('node:timers/promises');

const { Etcd3 } = require('etcd3');
const { ConstantBackoff, noop } = require('cockatiel');

/** Milliseconds for a start, an expiry or a reconnection on a busy machine. */
const READY_LIMIT = 30_000;
/** Milliseconds for one case. */
const CASE_LIMIT = 90_000;

let addresses = 0;

/** The program that the environment names, else the one that `cargo xtask test-programs` built. */
function program(variable, name) {
  const file = process.env[variable] || path.join(__dirname, '../../target/test-bin', name);
  assert.ok(fs.existsSync(file), `${file} is missing: set ${variable} or run cargo xtask test-programs`);
  return path.resolve(file);
}

/** Asks until the condition gives something truthy, and gives that. */
async function eventually(what, condition) {
  const deadline = Date.now() + READY_LIMIT;
  for (;;) {
    const answer = await condition();
    if (answer) return answer;
    assert.ok(Date.now() < deadline, `${what}: not within ${READY_LIMIT} ms`);
    await pause(10);
  }
}

/** Fails when the promise takes longer than it may. */
async function within(limit, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${limit} ms`)), limit);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** host:port that nobody else uses: a loopback address of this process alone, and a port that the kernel chose. */
async function freeAddress() {
  addresses += 1;
  const host = `127.${1 + ((process.pid >> 8) % 200)}.${process.pid % 256}.${1 + (addresses % 250)}`;
  const listener = net.createServer().listen(0, host);
  await once(listener, 'listening');
  const { port } = listener.address();
  listener.close();
  await once(listener, 'close');
  return `${host}:${port}`;
}

/** One member: a process, its folder, its addresses. It keeps folder and addresses over kill and start. */
class Server {
  static async create(binary, name, flags) {
    const server = new Server();
    server.flags = flags;
    server.name = name;
    server.binary = binary;
    server.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'quorate-node-'));
    server.endpoint = await freeAddress();
    server.peer = await freeAddress();
    return server;
  }

  start(cluster = `${this.name}=http://${this.peer}`) {
    this.cluster = cluster;
    const client = `http://${this.endpoint}`;
    const peer = `http://${this.peer}`;
    const log = fs.openSync(path.join(this.folder, 'log'), 'a');
    this.process = spawn('setpriv', [
      '--pdeathsig', 'KILL', '--', this.binary, '--name', this.name, '--data-dir', path.join(this.folder, 'data'),
      '--listen-client-urls', client, '--advertise-client-urls', client,
      '--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', cluster, ...this.flags,
    ], { stdio: ['ignore', log, log] });
    fs.closeSync(log);
    this.exited = once(this.process, 'exit');
  }

  async awaitReady() {
    await eventually(`${this.binary} ready`, () => {
      assert.equal(this.process.exitCode, null, `${this.binary} ended`);
      return this.healthy();
    });
  }

  healthy() {
    return new Promise(resolve => {
      const request = http.get(`http://${this.endpoint}/health`, { timeout: 2000, agent: false }, reply => {
        reply.resume();
        resolve(reply.statusCode === 200);
      });
      request.on('timeout', () => request.destroy());
      request.on('error', () => resolve(false));
    });
  }

  /** Ends the process as a power cut would. */
  async kill() {
    if (!this.process) return;
    this.process.kill('SIGKILL');
    await this.exited;
  }

  async restart() {
    await this.kill();
    this.start(this.cluster);
    await this.awaitReady();
  }

  log() {
    return fs.readFileSync(path.join(this.folder, 'log'), 'utf8').split('\n').slice(-15).join('\n');
  }

  async remove() {
    await this.kill();
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

/** One of the two kinds of server, and what the case saw of it. */
class Side {
  constructor(name, servers) {
    this.name = name;
    this.servers = servers;
    this.transcript = [];
    this.clients = [];
  }

  get server() {
    return this.servers[0];
  }

  /** Records what is to be the same on both sides. */
  note(asked, seen) {
    this.transcript.push({ asked, seen });
    return seen;
  }

  /** A client of all members that is closed with the case; it fails at once where the library's own would wait. */
  connect(options = {}) {
    const client = new Etcd3({
      hosts: this.servers.map(server => server.endpoint),
      faultHandling: { host: () => noop, global: noop, watchBackoff: new ConstantBackoff(50) },
      defaultCallOptions: context => (context.isStream ? {} : { deadline: Date.now() + 15_000 }),
      grpcOptions: { 'grpc.initial_reconnect_backoff_ms': 50, 'grpc.max_reconnect_backoff_ms': 200 },
      ...options,
    });
    this.clients.push(client);
    return client;
  }
}

// The client leaves a timer of a lease's whole life behind when the answer to a keep-alive comes after the lease was
// given up. No timer of a case may keep the process alive when its clients are closed.
const timers = [];
const { setTimeout: original } = global;
global.setTimeout = Object.assign((...parts) => {
  const timer = original(...parts);
  timers.push(timer);
  return timer;
}, original);

/** Ends the run when no case follows the last one and something that a failed case left keeps the process alive. */
let ending;
function afterCase() {
  for (const timer of timers.splice(0)) timer.unref();
  ending = original(() => process.exit(1), 10_000).unref();
}

/**
 * Starts real etcd and Quorate, with as many members each, runs the case on both, and compares. With v2, real etcd is
 * 3.4, the last that serves it by itself.
 */
async function both(size, script, { v2 = false } = {}) {
  const peer = v2 ? [program('OLD_ETCD', 'etcd-old'), ['--enable-v2=true']] : [program('PEER_BIN', 'etcd-peer'), []];
  const binaries = [['etcd', ...peer], ['ours', program('QUORATE_BIN', 'etcd'), []]];
  const sides = [];
  clearTimeout(ending);
  try {
    for (const [name, binary, flags] of binaries) {
      const servers = [];
      for (let number = 0; number < size; number += 1) servers.push(await Server.create(binary, `m${number}`, flags));
      sides.push(new Side(name, servers));
      const cluster = servers.map(server => `${server.name}=http://${server.peer}`).join(',');
      for (const server of servers) server.start(cluster);
    }
    const run = async side => {
      try {
        for (const server of side.servers) await server.awaitReady();
        await within(CASE_LIMIT, 'the case', script(side, side.connect()));
      } catch (error) {
        const last = JSON.stringify(side.transcript.at(-1));
        throw new Error(`${side.name} after ${last}: ${error.stack}\n${side.server.log()}`, { cause: error });
      }
    };
    await Promise.all(sides.map(run));
    const [wanted, seen] = sides.map(side => side.transcript);
    assert.notEqual(wanted.length, 0, 'the case saw nothing');
    assert.deepEqual(seen, wanted, 'ours (actual) shows what etcd (expected) does not');
  } finally {
    for (const side of sides) {
      for (const client of side.clients) client.close();
      for (const server of side.servers) await server.remove();
    }
    afterCase();
  }
}

module.exports = { both, eventually, within, READY_LIMIT };
