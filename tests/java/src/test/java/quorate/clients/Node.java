package quorate.clients;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.common.exception.ErrorCode;
import io.etcd.jetcd.common.exception.EtcdException;
import io.etcd.jetcd.kv.GetResponse;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.watch.WatchEvent;
import io.etcd.jetcd.watch.WatchResponse;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * One node of an application, which knows the nodes that are there. It owns its entry, that entry's lease and its copy of
 * the list; the client is the caller's. The invariant: the entry is there only while its node has kept the lease within
 * the time to live, and the copy is the list at one revision with every later change applied in order.
 */
final class Node implements AutoCloseable {
    private static final long NO_LEASE = 0;

    private final Map<String, String> nodes = new ConcurrentHashMap<>();
    private final ScheduledExecutorService turns = Executors.newSingleThreadScheduledExecutor();
    private final Client client;
    private final ByteSequence prefix;
    private final String name;
    private final String address;
    private final long ttlSeconds;
    // Both belong to the thread of the turns.
    private long lease = NO_LEASE;
    private Watch.Watcher watcher;

    Node(Client client, String prefix, String name, String address, long ttlSeconds) {
        this.client = client;
        this.prefix = bytes(prefix);
        this.name = name;
        this.address = address;
        this.ttlSeconds = ttlSeconds;
        turns.scheduleWithFixedDelay(this::turn, 0, ttlSeconds * 1000 / 3, TimeUnit.MILLISECONDS);
    }

    /** The nodes that are there, by name, with their addresses; while this node is cut off, those of before. */
    Map<String, String> list() {
        return new TreeMap<>(nodes);
    }

    /** Keeps the entry and follows the list; what fails is tried again in the next turn. */
    private void turn() {
        try {
            keep();
            if (watcher == null) {
                follow();
            }
        } catch (ExecutionException | TimeoutException | RuntimeException error) {
            // The servers are out of reach, for a while or for long: the next turn asks again.
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }

    private void keep() throws ExecutionException, TimeoutException, InterruptedException {
        if (lease != NO_LEASE) {
            try {
                answer(client.getLeaseClient().keepAliveOnce(lease));
                return;
            } catch (ExecutionException error) {
                if (!(error.getCause() instanceof EtcdException known) || known.getErrorCode() != ErrorCode.NOT_FOUND) {
                    throw error;
                }
                // The lease ended while nothing was heard of this node, and its entry with it.
                lease = NO_LEASE;
            }
        }
        long granted = answer(client.getLeaseClient().grant(ttlSeconds)).getID();
        ByteSequence key = prefix.concat(bytes(name));
        answer(client.getKVClient().put(key, bytes(address), PutOption.builder().withLeaseId(granted).build()));
        lease = granted;
    }

    /** Reads the list, and watches from the revision after. */
    private void follow() throws ExecutionException, TimeoutException, InterruptedException {
        GetResponse all = answer(client.getKVClient().get(prefix, GetOption.builder().isPrefix(true).build()));
        nodes.keySet().retainAll(all.getKvs().stream().map(this::named).toList());
        all.getKvs().forEach(entry -> nodes.put(named(entry), text(entry.getValue())));
        WatchOption later = WatchOption.builder().isPrefix(true).withRevision(all.getHeader().getRevision() + 1).build();
        watcher = client.getWatchClient().watch(prefix, later,
                Watch.listener(this::apply, error -> again(), this::again));
    }

    private void apply(WatchResponse changes) {
        for (WatchEvent event : changes.getEvents()) {
            if (event.getEventType() == WatchEvent.EventType.DELETE) {
                nodes.remove(named(event.getKeyValue()));
            } else {
                nodes.put(named(event.getKeyValue()), text(event.getKeyValue().getValue()));
            }
        }
    }

    /** A watch that ended for good, by a compaction for one, begins again with a whole list. */
    private void again() {
        if (!turns.isShutdown()) {
            turns.execute(() -> watcher = null);
        }
    }

    /** Leaves at once, without waiting for the lease to end. */
    @Override
    public void close() throws Exception {
        CompletableFuture<Void> left = CompletableFuture.runAsync(() -> {
            if (watcher != null) {
                watcher.close();
            }
            if (lease != NO_LEASE) {
                client.getLeaseClient().revoke(lease).join();
            }
        }, turns);
        turns.shutdown();
        left.get(ttlSeconds, TimeUnit.SECONDS);
    }

    /** No call takes longer than the others would wait for this node. */
    private <T> T answer(CompletableFuture<T> call) throws ExecutionException, TimeoutException, InterruptedException {
        return call.get(ttlSeconds, TimeUnit.SECONDS);
    }

    private String named(KeyValue entry) {
        return text(entry.getKey()).substring(text(prefix).length());
    }

    private static ByteSequence bytes(String text) {
        return ByteSequence.from(text, StandardCharsets.UTF_8);
    }

    private static String text(ByteSequence bytes) {
        return bytes.toString(StandardCharsets.UTF_8);
    }
}
