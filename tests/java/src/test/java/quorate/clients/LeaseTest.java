package quorate.clients;

import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static quorate.clients.Pair.both;
import static quorate.clients.Server.eventually;
import static quorate.clients.Side.bytes;
import static quorate.clients.Side.get;
import static quorate.clients.Side.text;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.Election;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.Lease;
import io.etcd.jetcd.Lock;
import io.etcd.jetcd.election.CampaignResponse;
import io.etcd.jetcd.election.LeaderResponse;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.lease.LeaseTimeToLiveResponse;
import io.etcd.jetcd.lock.LockResponse;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.LeaseOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.support.CloseableClient;
import io.grpc.stub.StreamObserver;
import java.util.List;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/** Leases, locks and elections through jetcd. */
class LeaseTest {
    private static final LeaseOption KEYS = LeaseOption.builder().withAttachedKeys().build();

    private static PutOption with(long lease) {
        return PutOption.builder().withLeaseId(lease).build();
    }

    private static boolean has(Client client, String key) throws Exception {
        return get(client.getKVClient().get(bytes(key))).getCount() == 1;
    }

    /** An observer of nothing but whether there was an answer, and an end. */
    private static StreamObserver<LeaseKeepAliveResponse> heard(BlockingQueue<String> words) {
        return new StreamObserver<>() {
            @Override
            public void onNext(LeaseKeepAliveResponse answer) {
                words.offer("kept for " + answer.getTTL());
            }

            @Override
            public void onError(Throwable error) {
                words.offer("error " + error.getMessage());
            }

            @Override
            public void onCompleted() {
                words.offer("completed");
            }
        };
    }

    @Test
    void leases() throws Exception {
        both((side, client) -> {
            Lease leases = client.getLeaseClient();
            KV kv = client.getKVClient();
            long lease = get(leases.grant(100)).getID();
            get(kv.put(bytes("a"), bytes("1"), with(lease)));
            get(kv.put(bytes("b"), bytes("1"), with(lease)));
            LeaseTimeToLiveResponse left = get(leases.timeToLive(lease, KEYS));
            side.note("granted", left.getGrantedTTL() + " " + (left.getTTL() > 90 && left.getTTL() <= 100)
                    + left.getKeys().stream().map(Side::text).sorted().toList());
            side.note("kept alive", get(leases.keepAliveOnce(lease)).getTTL());
            get(kv.put(bytes("b"), bytes("2")));
            side.note("keys", get(leases.timeToLive(lease, KEYS)).getKeys().stream().map(Side::text).toList());
            get(leases.revoke(lease));
            side.note("revoked", has(client, "a") + " " + has(client, "b"));
            side.refused("revoked again", () -> leases.revoke(lease));
            side.refused("put with none", () -> kv.put(bytes("a"), bytes("1"), with(lease)));
            side.refused("kept alive when gone", () -> leases.keepAliveOnce(lease));
            LeaseTimeToLiveResponse gone = get(leases.timeToLive(lease, KEYS));
            side.note("time to live of none", gone.getTTL() + " " + gone.getGrantedTTL());
        });
    }

    @Test
    void leasesEndWhenNobodyKeepsThem() throws Exception {
        both((side, client) -> {
            Lease leases = client.getLeaseClient();
            KV kv = client.getKVClient();
            long kept = get(leases.grant(2)).getID();
            long left = get(leases.grant(2)).getID();
            get(kv.put(bytes("kept"), bytes("1"), with(kept)));
            get(kv.put(bytes("left"), bytes("1"), with(left)));
            BlockingQueue<String> words = new ArrayBlockingQueue<>(1000);
            try (CloseableClient keeper = leases.keepAlive(kept, heard(words))) {
                assertNotEquals(null, keeper);
                eventually("the end of the lease that nobody keeps", () -> !has(client, "left"));
                side.note("kept", has(client, "kept") + " " + words.poll(20, TimeUnit.SECONDS));
                assertTrue(has(client, "kept"));
            }
            eventually("the end of the other", () -> !has(client, "kept"));
            side.note("time to live", get(leases.timeToLive(kept, KEYS)).getTTL());
        });
    }

    @Test
    void aLeaseIsKeptThroughARestart() throws Exception {
        both((side, client) -> {
            Lease leases = client.getLeaseClient();
            long kept = get(leases.grant(10)).getID();
            get(client.getKVClient().put(bytes("kept"), bytes("1"), with(kept)));
            BlockingQueue<String> words = new ArrayBlockingQueue<>(1000);
            try (CloseableClient keeper = leases.keepAlive(kept, heard(words))) {
                assertNotEquals(null, keeper);
                side.note("before", words.poll(20, TimeUnit.SECONDS));
                side.server().restart();
                words.clear();
                side.note("after", words.poll(20, TimeUnit.SECONDS));
            }
            side.note("kept", has(client, "kept"));
        });
    }

    @Test
    void locks() throws Exception {
        both((side, client) -> {
            Lock locks = client.getLockClient();
            long first = get(client.getLeaseClient().grant(60)).getID();
            long second = get(client.getLeaseClient().grant(2)).getID();
            long third = get(client.getLeaseClient().grant(60)).getID();
            ByteSequence held = get(locks.lock(bytes("lock"), first)).getKey();
            side.note("taken", text(held).equals("lock/" + Long.toHexString(first)));
            side.note("taken again", get(locks.lock(bytes("lock"), first)).getKey().equals(held));
            Lock others = side.connect().getLockClient();
            CompletableFuture<LockResponse> waiting = others.lock(bytes("lock"), second);
            GetOption prefix = GetOption.builder().isPrefix(true).build();
            KV kv = client.getKVClient();
            eventually("the second waits", () -> get(kv.get(bytes("lock/"), prefix)).getCount() == 2);
            side.note("waits", !waiting.isDone());
            get(locks.unlock(held));
            side.note("second", text(get(waiting).getKey()).equals("lock/" + Long.toHexString(second)));
            // The second is never released: its lease ends.
            ByteSequence last = get(locks.lock(bytes("lock"), third)).getKey();
            side.note("third", text(last).equals("lock/" + Long.toHexString(third)));
            get(locks.unlock(last));
            get(locks.unlock(last));
            side.refused("with no lease", () -> locks.lock(bytes("lock"), second));
        });
    }

    @Test
    void elections() throws Exception {
        both((side, client) -> {
            Election elections = client.getElectionClient();
            ByteSequence name = bytes("vote");
            BlockingQueue<String> leaders = new ArrayBlockingQueue<>(100);
            client.getElectionClient().observe(name, new Election.Listener() {
                @Override
                public void onNext(LeaderResponse response) {
                    leaders.offer(text(response.getKv().getValue()));
                }

                @Override
                public void onError(Throwable error) {
                    leaders.offer("error");
                }

                @Override
                public void onCompleted() {
                    leaders.offer("completed");
                }
            });
            long first = get(client.getLeaseClient().grant(60)).getID();
            long second = get(client.getLeaseClient().grant(60)).getID();
            CampaignResponse won = get(elections.campaign(name, first, bytes("one")));
            side.note("first", text(won.getLeader().getName()) + " " + won.getLeader().getRevision() + " "
                    + (won.getLeader().getLease() == first));
            side.note("leader", text(get(elections.leader(name)).getKv().getValue()));
            side.note("heard", leaders.poll(20, TimeUnit.SECONDS));
            Election others = side.connect().getElectionClient();
            CompletableFuture<CampaignResponse> waiting = others.campaign(name, second, bytes("two"));
            GetOption prefix = GetOption.builder().isPrefix(true).build();
            eventually("the second waits", () -> get(client.getKVClient().get(bytes("vote/"), prefix)).getCount() == 2);
            get(elections.proclaim(won.getLeader(), bytes("again")));
            side.note("proclaimed", text(get(elections.leader(name)).getKv().getValue()));
            side.note("heard", leaders.poll(20, TimeUnit.SECONDS));
            get(elections.resign(won.getLeader()));
            side.note("second", get(waiting).getLeader().getRevision());
            side.note("heard", leaders.poll(20, TimeUnit.SECONDS));
            side.refused("proclaimed by who resigned", () -> elections.proclaim(won.getLeader(), bytes("x")));
            side.refused("with no lease", () -> elections.campaign(name, 4711, bytes("x")));
            side.note("left", List.copyOf(leaders));
        });
    }
}
