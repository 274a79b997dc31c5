package quorate.clients;

import static org.awaitility.Awaitility.await;
import static org.hamcrest.Matchers.equalTo;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static quorate.clients.Pair.both;
import static quorate.clients.Side.bytes;
import static quorate.clients.Side.get;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

/** The list of an application's nodes, of which one is cut off by a proxy. */
class NodesTest {
    /** Seconds after which a silent node is gone. */
    private static final long TTL_SECONDS = 5;

    private static final String PREFIX = "nodes/";

    private static final Map<String, String> ALL = Map.of("a", "10.0.0.1", "b", "10.0.0.2", "c", "10.0.0.3");

    private static final Map<String, String> WITHOUT_C = Map.of("a", "10.0.0.1", "b", "10.0.0.2");

    private interface Act {
        void run(Proxy proxy) throws Exception;
    }

    private static void seen(Side side, String what, Node node, Map<String, String> wanted) {
        await(side.name + ": " + what).atMost(Server.READY_LIMIT).until(node::list, equalTo(wanted));
        side.note(what, node.list());
    }

    private static void aNodeVanishesAndComesBack(Act cut) throws Exception {
        both((side, client) -> {
            try (Proxy proxy = new Proxy(side.server().endpoint);
                    Node a = new Node(side.connect(), PREFIX, "a", "10.0.0.1", TTL_SECONDS);
                    Node b = new Node(side.connect(), PREFIX, "b", "10.0.0.2", TTL_SECONDS);
                    Node c = new Node(side.connect(builder -> builder.endpoints(proxy.url())), PREFIX, "c", "10.0.0.3",
                            TTL_SECONDS)) {
                for (Node node : new Node[] {a, b, c}) {
                    seen(side, "all are there", node, ALL);
                }
                long before = get(client.getKVClient().get(bytes(PREFIX + "c"))).getKvs().get(0).getLease();
                cut.run(proxy);
                seen(side, "c is gone for a", a, WITHOUT_C);
                seen(side, "c is gone for b", b, WITHOUT_C);
                side.note("c has the list of before", c.list());
                Node late = new Node(side.connect(), PREFIX, "d", "10.0.0.4", TTL_SECONDS);
                seen(side, "d came", a, Map.of("a", "10.0.0.1", "b", "10.0.0.2", "d", "10.0.0.4"));
                late.close();
                seen(side, "d left at once", a, WITHOUT_C);
                proxy.heal();
                for (Node node : new Node[] {a, b, c}) {
                    seen(side, "all are there again", node, ALL);
                }
                long after = get(client.getKVClient().get(bytes(PREFIX + "c"))).getKvs().get(0).getLease();
                assertNotEquals(before, after, "the lease of before is still there");
            }
        });
    }

    private static String flat(String text) {
        return text.replaceAll("\\s+", " ").strip();
    }

    @Test
    void thePageShowsTheClass() throws Exception {
        String page = Files.readString(Path.of("../../docs/stories/membership-java.md"));
        String node = flat(Files.readString(Path.of("src/test/java/quorate/clients/Node.java")));
        var blocks = Pattern.compile("```java\n(.*?)```", Pattern.DOTALL).matcher(page).results().toList();
        assertEquals(4, blocks.size());
        blocks.forEach(block -> assertTrue(node.contains(flat(block.group(1))), "not in Node.java: " + block.group(1)));
    }

    @Test
    void refusedConnections() throws Exception {
        aNodeVanishesAndComesBack(Proxy::refuse);
    }

    @Test
    void swallowedBytes() throws Exception {
        aNodeVanishesAndComesBack(Proxy::swallow);
    }
}
