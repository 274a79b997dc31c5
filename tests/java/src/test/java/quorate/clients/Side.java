package quorate.clients;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.ClientBuilder;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.common.exception.EtcdException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.function.UnaryOperator;

/** Real etcd or Quorate, the clients that the case has open on it, and what the case saw of it. */
final class Side {
    /** Bounds one call, with the client's own repetitions. */
    static final long CALL_SECONDS_MAX = 20;

    /** A call that fails or not. */
    interface Call {
        CompletableFuture<?> start() throws Exception;
    }

    final String name;
    final List<Server> servers;
    final List<String> transcript = new ArrayList<>();
    private final List<Client> clients = new ArrayList<>();

    Side(String name, List<Server> servers) {
        this.name = name;
        this.servers = servers;
    }

    Server server() {
        return servers.get(0);
    }

    /** A client of all members that is closed with the case. */
    Client connect(UnaryOperator<ClientBuilder> options) {
        String[] endpoints = servers.stream().map(Server::url).toArray(String[]::new);
        ClientBuilder builder = Client.builder().endpoints(endpoints).retryDelay(50).retryMaxDelay(200);
        Client client = options.apply(builder).build();
        clients.add(client);
        return client;
    }

    Client connect() {
        return connect(builder -> builder);
    }

    /** A client of a user. */
    Client logIn(String user, String password) {
        return connect(builder -> builder.user(bytes(user)).password(bytes(password)));
    }

    void closeClients() {
        clients.forEach(Client::close);
    }

    /** Records what is to be the same on both sides. */
    void note(String asked, Object seen) {
        transcript.add(asked + ": " + seen);
    }

    /** Records how a call that must fail does. */
    void refused(String asked, Call call) throws Exception {
        Object answer;
        try {
            answer = call.start().get(CALL_SECONDS_MAX, TimeUnit.SECONDS);
        } catch (ExecutionException error) {
            Throwable refusal = error.getCause();
            Object code = refusal instanceof EtcdException known ? known.getErrorCode() : "";
            note(asked, refusal.getClass().getSimpleName() + " " + code + " " + refusal.getMessage());
            return;
        }
        throw new AssertionError(asked + " was answered: " + answer);
    }

    /** The answer of a call, waited for. */
    static <T> T get(CompletableFuture<T> call) throws Exception {
        return call.get(CALL_SECONDS_MAX, TimeUnit.SECONDS);
    }

    static ByteSequence bytes(String text) {
        return ByteSequence.from(text, StandardCharsets.ISO_8859_1);
    }

    static String text(ByteSequence bytes) {
        return bytes.toString(StandardCharsets.ISO_8859_1);
    }

    /** A key with its value and revisions. */
    static String shown(KeyValue kv) {
        return "%s=%s created %d modified %d version %d".formatted(text(kv.getKey()), text(kv.getValue()),
                kv.getCreateRevision(), kv.getModRevision(), kv.getVersion());
    }

    static List<String> shown(List<KeyValue> kvs) {
        return kvs.stream().map(Side::shown).toList();
    }
}
