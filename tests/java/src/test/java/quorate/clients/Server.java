package quorate.clients;

import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * One member: a process, its folder, its addresses. It keeps folder and addresses over kill and start. The process never
 * outlives the thread that started it, and every wait has a deadline.
 */
final class Server {
    /** Bounds a start, an expiry or a reconnection on a busy machine. */
    static final Duration READY_LIMIT = Duration.ofSeconds(30);

    private static final AtomicInteger ADDRESSES = new AtomicInteger();

    final String name;
    final String endpoint = freeAddress();
    private final String peer = freeAddress();
    private final String binary;
    private final Path folder;
    private String cluster;
    private Process process;

    Server(String binary, String name) throws IOException {
        this.binary = binary;
        this.name = name;
        this.folder = Files.createTempDirectory("quorate-java-");
        this.cluster = inCluster();
    }

    /** The program that the environment names, else the one that cargo xtask test-programs built. */
    static String program(String variable, String name) {
        String named = System.getenv(variable);
        Path path = named == null ? Path.of("../../target/test-bin", name) : Path.of(named);
        if (!Files.isExecutable(path)) {
            throw new AssertionError(path + " is missing: set " + variable + " or run cargo xtask test-programs");
        }
        return path.toAbsolutePath().toString();
    }

    /** Asks until the condition holds. */
    static void eventually(String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + READY_LIMIT.toNanos();
        while (!condition.call()) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError(what + ": not within " + READY_LIMIT);
            }
            Thread.sleep(10);
        }
    }

    /** host:port that nobody else uses: a loopback address of this process alone, and a port that the kernel chose. */
    static String freeAddress() {
        long pid = ProcessHandle.current().pid();
        int number = ADDRESSES.incrementAndGet();
        String host = "127.%d.%d.%d".formatted(1 + (pid >> 8) % 200, pid % 256, 1 + number % 250);
        try (ServerSocket listener = new ServerSocket()) {
            listener.bind(new InetSocketAddress(InetAddress.getByName(host), 0));
            return host + ":" + listener.getLocalPort();
        } catch (IOException error) {
            throw new AssertionError("no free address on " + host, error);
        }
    }

    /** What names this member to the others. */
    String inCluster() {
        return name + "=http://" + peer;
    }

    String url() {
        return "http://" + endpoint;
    }

    void start(List<Server> members) throws IOException {
        cluster = String.join(",", members.stream().map(Server::inCluster).toList());
        start();
    }

    /** Starts the process on its folder; awaitReady waits until it serves. */
    void start() throws IOException {
        ProcessBuilder builder = new ProcessBuilder("setpriv", "--pdeathsig", "KILL", "--", binary, "--name", name,
                "--data-dir", folder.resolve("data").toString(), "--listen-client-urls", url(),
                "--advertise-client-urls", url(), "--listen-peer-urls", "http://" + peer,
                "--initial-advertise-peer-urls", "http://" + peer, "--initial-cluster", cluster);
        builder.redirectErrorStream(true);
        builder.redirectOutput(ProcessBuilder.Redirect.appendTo(folder.resolve("log").toFile()));
        process = builder.start();
    }

    /** Waits until the member serves linearizable requests. */
    void awaitReady() throws Exception {
        eventually(binary + " ready", () -> {
            if (!process.isAlive()) {
                throw new AssertionError(binary + " ended");
            }
            return healthy();
        });
    }

    private boolean healthy() throws IOException {
        HttpURLConnection call = (HttpURLConnection) URI.create(url() + "/health").toURL().openConnection();
        call.setConnectTimeout(2000);
        call.setReadTimeout(2000);
        try {
            return call.getResponseCode() == 200;
        } catch (IOException error) {
            return false;
        } finally {
            call.disconnect();
        }
    }

    /** Ends the process as a power cut would. */
    void kill() throws InterruptedException {
        if (process != null && !process.destroyForcibly().waitFor(READY_LIMIT.toSeconds(), TimeUnit.SECONDS)) {
            throw new AssertionError(binary + " does not end");
        }
    }

    void restart() throws Exception {
        kill();
        start();
        awaitReady();
    }

    /** The last lines that the process printed. */
    String log() throws IOException {
        List<String> lines = Files.readAllLines(folder.resolve("log"));
        return String.join("\n", lines.subList(Math.max(0, lines.size() - 15), lines.size()));
    }

    /** Ends the process and leaves nothing behind. */
    void remove() throws Exception {
        kill();
        try (var paths = Files.walk(folder)) {
            for (Path path : paths.sorted(Comparator.reverseOrder()).toList()) {
                Files.delete(path);
            }
        }
    }
}
