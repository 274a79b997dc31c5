package quorate.clients;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static quorate.clients.Pair.both;
import static quorate.clients.Side.bytes;
import static quorate.clients.Side.get;
import static quorate.clients.Side.shown;
import static quorate.clients.Side.text;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.Txn;
import io.etcd.jetcd.cluster.Member;
import io.etcd.jetcd.kv.GetResponse;
import io.etcd.jetcd.kv.TxnResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.CompactOption;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.GetOption.SortOrder;
import io.etcd.jetcd.options.GetOption.SortTarget;
import io.etcd.jetcd.options.PutOption;
import java.io.ByteArrayOutputStream;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Keys, transactions, refusals and maintenance through jetcd. */
class KeysTest {
    private static final GetOption GET = GetOption.DEFAULT;
    private static final PutOption PUT = PutOption.DEFAULT;

    private static String listed(GetResponse answer) {
        return shown(answer.getKvs()) + " more " + answer.isMore() + " count " + answer.getCount();
    }

    private static GetOption.Builder prefix() {
        return GetOption.builder().isPrefix(true);
    }

    @Test
    void keys() throws Exception {
        both((side, client) -> {
            KV kv = client.getKVClient();
            side.note("put", get(kv.put(bytes("kv/a"), bytes("1"))).getHeader().getRevision());
            PutOption previous = PutOption.builder().withPrevKV().build();
            side.note("put again", shown(get(kv.put(bytes("kv/a"), bytes("2"), previous)).getPrevKv()));
            get(kv.put(bytes("kv/b"), bytes("\0\u00ff\n")));
            get(kv.put(bytes("kv/c"), ByteSequence.EMPTY));
            for (String key : List.of("kv/a", "kv/b", "kv/c", "kv/none")) {
                side.note(key, listed(get(kv.get(bytes(key)))));
            }
            for (SortTarget target : SortTarget.values()) {
                for (SortOrder order : SortOrder.values()) {
                    GetOption option = prefix().withSortField(target).withSortOrder(order).withLimit(2).build();
                    side.note(target + " " + order, listed(get(kv.get(bytes("kv/"), option))));
                }
            }
            List<GetOption> options = List.of(prefix().withKeysOnly(true).build(), prefix().withCountOnly(true).build(),
                    prefix().withSerializable(true).build(), prefix().withRevision(3).build(),
                    prefix().withMinModRevision(4).build(), prefix().withMaxModRevision(4).build(),
                    prefix().withMinCreateRevision(4).build(), prefix().withMaxCreateRevision(4).build(),
                    GetOption.builder().withRange(bytes("kv/c")).build());
            for (GetOption option : options) {
                side.note("option", listed(get(kv.get(bytes("kv/"), option))));
            }
            KV space = side.connect(builder -> builder.namespace(bytes("space/"))).getKVClient();
            get(space.put(bytes("a"), bytes("within")));
            side.note("namespace", listed(get(space.get(bytes("a")))) + listed(get(kv.get(bytes("space/a")))));
            DeleteOption all = DeleteOption.builder().isPrefix(true).withPrevKV(true).build();
            side.note("delete", get(kv.delete(bytes("kv/a"))).getDeleted());
            side.note("deleted again", get(kv.delete(bytes("kv/a"))).getDeleted());
            List<String> deleted = shown(get(kv.delete(bytes("kv/"), all)).getPrevKvs());
            assertEquals(2, deleted.size());
            side.note("delete prefix", deleted);
        });
    }

    private static boolean ask(Side side, String name, Txn txn) throws Exception {
        TxnResponse answer = get(txn.commit());
        side.note(name, answer.isSucceeded() + " " + answer.getHeader().getRevision() + " "
                + answer.getGetResponses().stream().map(KeysTest::listed).toList() + answer.getPutResponses().size()
                + answer.getDeleteResponses().stream().map(deleted -> deleted.getDeleted()).toList()
                + answer.getTxnResponses().stream().map(TxnResponse::isSucceeded).toList());
        return answer.isSucceeded();
    }

    @Test
    void transactions() throws Exception {
        both((side, client) -> {
            KV kv = client.getKVClient();
            ByteSequence a = bytes("a");
            get(kv.put(a, bytes("1")));
            Cmp one = new Cmp(a, Cmp.Op.EQUAL, CmpTarget.value(bytes("1")));
            Op putB = Op.put(bytes("b"), bytes("b"), PUT);
            Op getA = Op.get(a, GET);
            assertTrue(ask(side, "then", kv.txn().If(one).Then(putB, Op.get(bytes("b"), GET)).Else(getA)));
            get(kv.put(a, bytes("2")));
            ask(side, "else", kv.txn().If(one).Then(putB).Else(getA, Op.get(bytes("none"), GET)));
            Cmp[] all = {new Cmp(a, Cmp.Op.GREATER, CmpTarget.version(1)),
                new Cmp(a, Cmp.Op.LESS, CmpTarget.createRevision(3)), new Cmp(a, Cmp.Op.EQUAL, CmpTarget.modRevision(4)),
                new Cmp(a, Cmp.Op.NOT_EQUAL, CmpTarget.value(bytes("9")))};
            assertTrue(ask(side, "all comparisons", kv.txn().If(all).Then(Op.delete(a, DeleteOption.DEFAULT))));
            Cmp gone = new Cmp(a, Cmp.Op.EQUAL, CmpTarget.createRevision(0));
            Op nested = Op.txn(new Cmp[] {gone}, new Op[] {Op.put(a, bytes("3"), PUT)}, new Op[0]);
            assertTrue(ask(side, "nested", kv.txn().Then(nested, getA)));
            ask(side, "nothing", kv.txn());
            side.refused("a key twice", () -> kv.txn().Then(putB, putB).commit());
            side.refused("no key", () -> kv.txn().Then(Op.put(ByteSequence.EMPTY, a, PUT)).commit());
        });
    }

    @Test
    void refusals() throws Exception {
        both((side, client) -> {
            KV kv = client.getKVClient();
            ByteSequence k = bytes("k");
            side.refused("empty key", () -> kv.put(ByteSequence.EMPTY, k));
            side.refused("large", () -> kv.put(k, bytes("x".repeat(1_600_000))));
            side.refused("lease", () -> kv.put(k, k, PutOption.builder().withLeaseId(4711).build()));
            side.refused("long lease", () -> client.getLeaseClient().grant(10_000_000_000L));
            side.refused("unknown lease", () -> client.getLeaseClient().revoke(4711));
            for (int n = 0; n < 5; n++) {
                get(kv.put(k, bytes("v" + n)));
            }
            CompactOption physical = CompactOption.builder().withCompactPhysical(true).build();
            side.note("compacted", get(kv.compact(4, physical)).getHeader().getRevision());
            side.refused("compacted again", () -> kv.compact(4));
            side.refused("compacted in the future", () -> kv.compact(100));
            side.refused("compacted revision", () -> kv.get(k, GetOption.builder().withRevision(3).build()));
            side.refused("future revision", () -> kv.get(k, GetOption.builder().withRevision(100).build()));
            side.note("older revision", listed(get(kv.get(k, GetOption.builder().withRevision(5).build()))));
            side.refused("election without leader", () -> client.getElectionClient().leader(bytes("nobody")));
        });
    }

    @Test
    void maintenance() throws Exception {
        both((side, client) -> {
            get(client.getKVClient().put(bytes("k"), bytes("v")));
            var maintenance = client.getMaintenanceClient();
            var status = get(maintenance.statusMember(side.server().url()));
            List<Member> members = get(client.getClusterClient().listMember()).getMembers();
            side.note("status", status.getVersion() + " " + (status.getLeader() == members.get(0).getId()));
            side.note("members", members.stream().map(Member::getName).toList());
            side.note("alarms", get(maintenance.listAlarms()).getAlarms().size());
            long hash = get(maintenance.hashKV(side.server().url(), 0)).getHash();
            assertEquals(hash, get(maintenance.hashKV(side.server().url(), 0)).getHash());
            get(maintenance.defragmentMember(side.server().url()));
            ByteArrayOutputStream bytes = new ByteArrayOutputStream();
            side.note("snapshot", get(maintenance.snapshot(bytes)) == bytes.size());
            side.note("pages", bytes.size() % 512);
            side.note("after all", text(get(client.getKVClient().get(bytes("k"))).getKvs().get(0).getValue()));
        });
    }
}
