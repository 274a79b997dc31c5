package quorate.clients;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import io.etcd.jetcd.Client;
import java.util.ArrayList;
import java.util.List;

/** Runs the same case against real etcd and Quorate at the same time, and compares what the client showed. */
final class Pair {
    /** Bounds one case. */
    private static final long CASE_MS_MAX = 90_000;

    /** What is asked of each side. */
    interface Case {
        void run(Side side, Client client) throws Exception;
    }

    private Pair() {
    }

    /** Runs the case on one fresh member of each kind. */
    static void both(Case script) throws Exception {
        both(1, script);
    }

    /** Runs the case on fresh clusters of size members. */
    static void both(int size, Case script) throws Exception {
        List<Side> sides = new ArrayList<>();
        try {
            sides.add(start("etcd", Server.program("PEER_BIN", "etcd-peer"), size));
            sides.add(start("ours", Server.program("QUORATE_BIN", "etcd"), size));
            for (Side side : sides) {
                for (Server server : side.servers) {
                    server.awaitReady();
                }
            }
            run(sides, script);
            List<String> peer = sides.get(0).transcript;
            List<String> ours = sides.get(1).transcript;
            assertFalse(peer.isEmpty(), "the case saw nothing");
            assertEquals(String.join("\n", peer), String.join("\n", ours), "what ours shows, and etcd does not");
        } finally {
            for (Side side : sides) {
                side.closeClients();
                for (Server server : side.servers) {
                    server.remove();
                }
            }
        }
    }

    private static Side start(String name, String binary, int size) throws Exception {
        List<Server> servers = new ArrayList<>();
        for (int number = 0; number < size; number++) {
            servers.add(new Server(binary, "m" + number));
        }
        for (Server server : servers) {
            server.start(servers);
        }
        return new Side(name, servers);
    }

    private static void run(List<Side> sides, Case script) throws Exception {
        List<Thread> threads = new ArrayList<>();
        Throwable[] failures = new Throwable[sides.size()];
        for (int number = 0; number < sides.size(); number++) {
            int at = number;
            Thread thread = new Thread(() -> {
                try {
                    script.run(sides.get(at), sides.get(at).connect());
                } catch (Throwable failure) {
                    failures[at] = failure;
                }
            }, sides.get(number).name);
            thread.setDaemon(true);
            thread.start();
            threads.add(thread);
        }
        long deadline = System.currentTimeMillis() + CASE_MS_MAX;
        for (int number = 0; number < threads.size(); number++) {
            threads.get(number).join(Math.max(1, deadline - System.currentTimeMillis()));
            if (threads.get(number).isAlive()) {
                failures[number] = new AssertionError("the case still waits");
                failures[number].setStackTrace(threads.get(number).getStackTrace());
            }
            if (failures[number] != null) {
                Side side = sides.get(number);
                List<String> seen = side.transcript;
                String last = seen.isEmpty() ? "the start" : seen.get(seen.size() - 1);
                String log = side.server().log();
                throw new AssertionError(side.name + " after " + last + ": " + failures[number] + "\n" + log,
                        failures[number]);
            }
        }
    }
}
