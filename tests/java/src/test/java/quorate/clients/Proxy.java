package quorate.clients;

import static quorate.clients.Server.eventually;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;

/**
 * A toxiproxy in front of one address, commanded by its HTTP interface. The process never outlives the thread that started
 * it.
 */
final class Proxy implements AutoCloseable {
    private static final Duration CALL_LIMIT = Duration.ofSeconds(10);

    private static final String NAME = "member";

    private final HttpClient http = HttpClient.newHttpClient();
    private final String control = Server.freeAddress();
    private final String listen = Server.freeAddress();
    private final Process process;

    /** Starts the proxy; what connects to url reaches the address upstream. */
    Proxy(String upstream) throws Exception {
        String[] parts = control.split(":");
        String binary = Server.program("TOXIPROXY", "../clients/toxiproxy/toxiproxy");
        process = new ProcessBuilder("setpriv", "--pdeathsig", "KILL", "--", binary, "-host", parts[0], "-port", parts[1])
                .redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.DISCARD).start();
        eventually("toxiproxy ready", () -> {
            try {
                return command("GET", "/version", "") == 200;
            } catch (IOException error) {
                return false;
            }
        });
        expect("POST", "/proxies", "{\"name\":\"%s\",\"listen\":\"%s\",\"upstream\":\"%s\",\"enabled\":true}"
                .formatted(NAME, listen, upstream));
    }

    String url() {
        return "http://" + listen;
    }

    /** Ends every connection and refuses new ones. */
    void refuse() throws Exception {
        expect("POST", "/proxies/" + NAME, "{\"enabled\":false}");
    }

    /** Lets nothing through and says nothing, as a cable that was pulled. */
    void swallow() throws Exception {
        for (String direction : new String[] {"upstream", "downstream"}) {
            expect("POST", "/proxies/" + NAME + "/toxics", "{\"type\":\"timeout\",\"stream\":\"%s\",\"attributes\":{\"timeout\":0}}"
                    .formatted(direction));
        }
    }

    /** Everything is as in the beginning; connections that lost bytes end. */
    void heal() throws Exception {
        expect("POST", "/reset", "");
    }

    private void expect(String method, String path, String body) throws Exception {
        int status = command(method, path, body);
        if (status >= 300) {
            throw new AssertionError(path + " was answered with " + status);
        }
    }

    private int command(String method, String path, String body) throws IOException, InterruptedException {
        HttpRequest request = HttpRequest.newBuilder(URI.create("http://" + control + path)).timeout(CALL_LIMIT)
                .method(method, HttpRequest.BodyPublishers.ofString(body)).build();
        return http.send(request, HttpResponse.BodyHandlers.ofString()).statusCode();
    }

    @Override
    public void close() {
        process.destroyForcibly();
    }
}
