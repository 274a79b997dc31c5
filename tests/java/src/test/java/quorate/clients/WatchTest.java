package quorate.clients;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static quorate.clients.Pair.both;
import static quorate.clients.Side.bytes;
import static quorate.clients.Side.get;
import static quorate.clients.Side.shown;

import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.common.exception.CompactedException;
import io.etcd.jetcd.common.exception.ErrorCode;
import io.etcd.jetcd.common.exception.EtcdException;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.watch.WatchEvent;
import io.etcd.jetcd.watch.WatchResponse;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/** Watches through jetcd, also through the loss of the member. */
class WatchTest {
    /** More events than any case makes. */
    private static final int EVENTS_MAX = 1000;

    /** What the queue of events holds when the server has the watch. */
    private static final String CREATED = "created";

    /** A watch whose events are taken with a deadline. */
    private static final class Events implements AutoCloseable {
        private final BlockingQueue<Object> seen = new ArrayBlockingQueue<>(EVENTS_MAX);
        private final Client client;
        private final String key;
        private Watch.Watcher watcher;
        private long taken;

        Events(Client client, String key, WatchOption option) {
            this.client = client;
            this.key = key;
            open(option);
        }

        private void open(WatchOption option) {
            watcher = client.getWatchClient().watch(bytes(key), option, Watch.listener(this::add, seen::add));
        }

        private void add(WatchResponse response) {
            if (response.isCreatedNotify()) {
                seen.add(CREATED);
            }
            seen.addAll(response.getEvents());
        }

        Object next() throws InterruptedException {
            Object next = seen.poll(Server.READY_LIMIT.toSeconds(), TimeUnit.SECONDS);
            assertNotNull(next, "no event came");
            return next;
        }

        /** Waits until the server has the watch. */
        Events created() throws InterruptedException {
            assertEquals(CREATED, next());
            return this;
        }

        List<String> take(int count) throws InterruptedException {
            List<String> shown = new ArrayList<>();
            while (shown.size() < count) {
                Object next = next();
                if (next instanceof WatchEvent event) {
                    taken = event.getKeyValue().getModRevision();
                    shown.add(event.getEventType() + " " + shown(event.getKeyValue()) + " before " + shown(event.getPrevKV()));
                } else if (next instanceof EtcdException error) {
                    broke(error);
                } else {
                    assertEquals(CREATED, next);
                }
            }
            return shown;
        }

        /**
         * The client tells each time that the connection broke. It goes on by itself when the server was unavailable,
         * and not when the connection ended under a call: then the program does, as it has to.
         */
        private void broke(EtcdException error) {
            if (error.getErrorCode() != ErrorCode.UNAVAILABLE) {
                assertEquals("channel closed", error.getMessage());
                stop();
                open(prefix().withRevision(taken + 1).build());
            }
        }

        void stop() {
            watcher.close();
        }

        @Override
        public void close() {
            stop();
        }
    }

    private static WatchOption.Builder prefix() {
        return WatchOption.builder().isPrefix(true).withCreateNotify(true);
    }

    @Test
    void watches() throws Exception {
        both((side, client) -> {
            KV kv = client.getKVClient();
            WatchOption previous = WatchOption.builder().withPrevKV(true).withCreateNotify(true).build();
            try (Events one = new Events(client, "a", previous).created();
                    Events many = new Events(client, "", prefix().build()).created()) {
                get(kv.put(bytes("a"), bytes("1")));
                get(kv.put(bytes("b"), bytes("2")));
                get(kv.put(bytes("a"), bytes("3")));
                get(kv.delete(bytes("a")));
                long lease = get(client.getLeaseClient().grant(60)).getID();
                get(kv.put(bytes("c"), bytes("4"), PutOption.builder().withLeaseId(lease).build()));
                get(client.getLeaseClient().revoke(lease));
                side.note("one key", one.take(3));
                side.note("prefix", many.take(6));
                one.stop();
                get(kv.put(bytes("a"), bytes("5")));
                side.note("the other watch", many.take(1));
                assertEquals(0, one.seen.size());
            }
            try (Events history = new Events(client, "", prefix().withRevision(3).withPrevKV(true).build());
                    Events puts = new Events(client, "", prefix().withRevision(2).withNoDelete(true).build());
                    Events deletes = new Events(client, "", prefix().withRevision(2).withNoPut(true).build())) {
                side.note("history", history.take(6));
                side.note("puts", puts.take(5));
                side.note("deletes", deletes.take(2));
            }
            get(kv.compact(5));
            try (Events old = new Events(client, "a", WatchOption.builder().withRevision(2).build())) {
                CompactedException refusal = (CompactedException) old.next();
                side.note("compacted", refusal.getErrorCode() + " " + refusal.getCompactedRevision());
            }
        });
    }

    @Test
    void aWatchGoesOnThroughARestart() throws Exception {
        both((side, client) -> {
            KV kv = client.getKVClient();
            try (Events events = new Events(client, "", prefix().build()).created()) {
                get(kv.put(bytes("a"), bytes("1")));
                side.note("before", events.take(1));
                side.server().restart();
                Server.eventually("a put", () -> make(kv, "b"));
                side.note("what was missed", events.take(1));
                get(kv.delete(bytes("\0"), DeleteOption.builder().withRange(bytes("\0")).build()));
                side.note("what comes then", events.take(2));
            }
        });
    }

    /** Makes the key, once however often this is asked: what is given up may be done all the same. */
    private static boolean make(KV kv, String key) {
        Cmp none = new Cmp(bytes(key), Cmp.Op.EQUAL, CmpTarget.createRevision(0));
        try {
            kv.txn().If(none).Then(Op.put(bytes(key), bytes("2"), PutOption.DEFAULT)).commit().get(1, TimeUnit.SECONDS);
            return true;
        } catch (Exception error) {
            return false;
        }
    }

    @Test
    void aClientGoesOnWithoutTheMemberItIsConnectedTo() throws Exception {
        both(3, (side, client) -> {
            KV kv = client.getKVClient();
            try (Events events = new Events(client, "", prefix().build()).created()) {
                get(kv.put(bytes("a"), bytes("1")));
                events.take(1);
                for (Server server : side.servers) {
                    server.kill();
                    Server.eventually("a put without " + server.name, () -> make(kv, server.name));
                    side.note("without " + server.name, events.take(1));
                    server.start();
                    server.awaitReady();
                }
                side.note("all", get(kv.get(bytes("\0"), GetOption.builder().withRange(bytes("\0"))
                        .withKeysOnly(true).build())).getKvs().stream().map(found -> Side.text(found.getKey())).toList());
            }
        });
    }
}
