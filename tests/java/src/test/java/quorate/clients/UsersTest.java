package quorate.clients;

import static quorate.clients.Pair.both;
import static quorate.clients.Side.bytes;
import static quorate.clients.Side.get;
import static quorate.clients.Side.shown;
import static quorate.clients.Side.text;

import io.etcd.jetcd.Auth;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.auth.Permission;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.PutOption;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Users, roles and permissions through jetcd. */
class UsersTest {
    private static final GetOption PREFIX = GetOption.builder().isPrefix(true).build();

    @Test
    void users() throws Exception {
        both((side, client) -> {
            Auth auth = client.getAuthClient();
            KV nobody = client.getKVClient();
            get(nobody.put(bytes("mine/a"), bytes("1")));
            get(nobody.put(bytes("theirs/a"), bytes("1")));
            side.refused("enabled without root", auth::authEnable);
            for (String name : List.of("root", "user")) {
                get(auth.userAdd(bytes(name), bytes(name + "-password")));
                get(auth.roleAdd(bytes(name)));
                get(auth.userGrantRole(bytes(name), bytes(name)));
            }
            side.refused("a user twice", () -> auth.userAdd(bytes("user"), bytes("x")));
            side.refused("a user of no name", () -> auth.userAdd(bytes(""), bytes("x")));
            side.refused("a role twice", () -> auth.roleAdd(bytes("user")));
            side.refused("no such role", () -> auth.userGrantRole(bytes("user"), bytes("none")));
            side.refused("no such user", () -> auth.userDelete(bytes("none")));
            get(auth.roleGrantPermission(bytes("user"), bytes("mine/"), bytes("mine0"), Permission.Type.READWRITE));
            get(auth.roleGrantPermission(bytes("user"), bytes("read"), bytes("read\0"), Permission.Type.READ));
            side.note("permissions", get(auth.roleGet(bytes("user"))).getPermissions().stream()
                    .map(p -> p.getPermType() + text(p.getKey()) + ".." + text(p.getRangeEnd())).toList());
            get(auth.authEnable());
            side.refused("nobody", () -> nobody.get(bytes("mine/a")));
            side.refused("a wrong password", () -> side.logIn("user", "wrong").getKVClient().get(bytes("mine/a")));
            side.refused("an unknown user", () -> side.logIn("none", "wrong").getKVClient().get(bytes("mine/a")));
            permitted(side);
            Client root = side.logIn("root", "root-password");
            get(root.getKVClient().put(bytes("read"), bytes("9")));
            side.note("root", shown(get(root.getKVClient().get(bytes("theirs/a"))).getKvs()));
            get(root.getAuthClient().userChangePassword(bytes("user"), bytes("another")));
            side.refused("the old password", () -> side.logIn("user", "user-password").getKVClient().get(bytes("mine/a")));
            Client again = side.logIn("user", "another");
            side.note("the new password", shown(get(again.getKVClient().get(bytes("read"))).getKvs()));
            root = side.logIn("root", "root-password");
            get(root.getAuthClient().userRevokeRole(bytes("user"), bytes("user")));
            Client bare = side.logIn("user", "another");
            side.refused("without the role", () -> bare.getKVClient().get(bytes("mine/a")));
            Auth listed = side.logIn("root", "root-password").getAuthClient();
            side.note("users", get(listed.userList()).getUsers());
            side.note("roles", get(listed.roleList()).getRoles());
            get(listed.authDisable());
            side.note("nobody, when disabled", shown(get(nobody.get(bytes("mine/a"))).getKvs()));
        });
    }

    private static void permitted(Side side) throws Exception {
        Client client = side.logIn("user", "user-password");
        KV user = client.getKVClient();
        get(user.put(bytes("mine/b"), bytes("2")));
        side.note("permitted", shown(get(user.get(bytes("mine/"), PREFIX)).getKvs()));
        side.refused("another's key", () -> user.get(bytes("theirs/a")));
        side.refused("a put where only reads are permitted", () -> user.put(bytes("read"), bytes("1")));
        side.refused("a prefix beyond", () -> user.get(bytes("m"), PREFIX));
        side.refused("a delete beyond", () -> user.delete(bytes("theirs/a")));
        Op beyond = Op.put(bytes("theirs/a"), bytes("x"), PutOption.DEFAULT);
        side.refused("a transaction beyond", () -> user.txn().Then(beyond).commit());
        side.refused("a new user by a user", () -> client.getAuthClient().userAdd(bytes("third"), bytes("x")));
    }
}
