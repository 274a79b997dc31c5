package v2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"quorate/tests/harness"
)

// command runs a program of v2's command line and answers its outputs and its exit code.
func command(t *testing.T, program string, server *harness.Server, stdin string, words ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), harness.CallLimit)
	defer cancel()
	run := exec.CommandContext(ctx, program, words...)
	run.Env = append(os.Environ(), "ETCDCTL_API=2", "ETCDCTL_ENDPOINTS="+server.ClientURL)
	run.Stdin = strings.NewReader(stdin)
	var out, failure bytes.Buffer
	run.Stdout, run.Stderr = &out, &failure
	code := 0
	if err := run.Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) || ctx.Err() != nil {
			t.Fatalf("%s %v: %v\n%s%s", program, words, err, &out, &failure)
		}
		code = exit.ExitCode()
	}
	shown := fmt.Sprintf("exit %d\nout:\n%serr:\n%s", code, &out, &failure)
	shown = expiration.ReplaceAllString(shown, `"expiration":"SOON"`)
	for peer, id := range ids(t, server) {
		shown = strings.NewReplacer(id, "ID", peer, "PEER").Replace(shown)
	}
	// The tests call Debian's program by another name, which its help shows.
	return strings.NewReplacer("etcdctl-old", "etcdctl", server.ClientURL, "CLIENT", server.PeerURL, "PEER").Replace(shown)
}

// Each line is a command; what stands behind " < " is its standard input.
const commands = `
set /a 1
set /a 2 --ttl 100
set --ttl 100 /a 3
-o extended get /a
-o json get /a
-o json set /b x<&>
-o extended set /b 2
-o other get /a
get /a
get a
get /none
get
get /a --quorum
get --sort /a
-o json get /none
set /a
set /c < from a pipe
set -- /dash -v
set /a 4 --swap-with-value 9
set /a 4 --swap-with-value 3
set /a 5 --swap-with-index 1
mk /a 1
mk /new 1
mk --ttl 100 /new2 1
mk --in-order /queue x
mk --in-order --ttl 50 /queue y
mk /new3
mkdir /dir
mkdir /dir
mkdir /dir2 --ttl 100
mkdir
-o json mkdir /dir3
-o extended mkdir /dir4
setdir /dir5
setdir /dir --ttl 100
setdir /dir
updatedir /dir
updatedir /dir --ttl 100
updatedir /none
update /a 9
update /none 9
update /a 9 --ttl 5
set /dir/x/y 1
set /dir/_hidden 1
get /dir
ls --sort
ls / --sort
ls -r --sort
ls -p --sort
ls --recursive -p --sort /dir
ls /a
ls /none
-o json ls --sort --recursive /dir
-o extended ls /dir
rmdir /dir
rmdir /none
rm /none
rm /dir
rm /dir2 --dir
rm /new2
rm --with-value 8 /a
rm --with-value 9 /a
rm --with-index 1 /b
-o json rm /b
-o extended rm /c
-o json rm --recursive /dir
rm --recursive /dir3
rm
rmdir /dir4
rmdir /dir5/
watch --after-index 3 /a
watch --after-index 4 --recursive /
-o json watch --after-index 3 /a
-o extended watch --after-index 3 /a
watch --after-index 10 /queue --recursive
watch
exec-watch /a
exec-watch
member list
member add
member add a
member add a foo
member add a http://127.0.0.1:1/x
member add a PEER
member remove
member remove 12
member remove m0
member remove ID
member update
member update 12 http://127.0.0.1:7
member update ID PEER
member update ID PEER,http://127.0.0.1:1
member update ID PEER
member list x
cluster-health
user list
user add u:pw
user add u:pw
user add root:rootpw
user add
user add e:
user get u
user get none
user grant u
user grant u --roles r
user grant --roles r,s u
user grant u --roles r
user revoke u --roles none
user revoke --roles s u
user revoke u --roles r,s
user get u
user list
user list x
user remove none
role list
role add r
role add r
role add root
role add
role get r
role get none
role get root
role grant r
role grant r --path /x
role grant r --path x --read
role grant r --path /x --read --write
role grant r --path /x --read
role grant r --path /x --read
role grant r --path /y* --readwrite
role grant r --path /y* --rw
role revoke r --path /none --read
role revoke r --path /x --read
role revoke r --path /y* --write
role get r
role list
role list x
role remove none
user grant u --roles r
user get u
auth enable x
auth disable
auth enable
auth enable
user list
role list
get /q
--username root:rootpw user list
--username root:wrong user list
-u root:rootpw role remove guest
--username u:pw get /y1
--username u:pw set /y1 1
--username u:pw get /none
get /y1
member list
member remove ID
-u root:rootpw role get guest
-u root:rootpw user remove root
-u root:rootpw auth disable
user remove u
role remove r
bogus
member bogus
member
member help
member help add
member help bogus
member --help
member --nope
member add --help
help
help get
help member
help bogus
--help
-h
--version
get --help
set --help
rm --help
ls -h
role grant -h
user grant -h
exec-watch -h
cluster-health -h
mk -h
auth -h
get --nope
--nope get
--timeout x get /a
--timeout
get --sort=x /a
set --ttl x /a b
--output
--no-sync get /a
--debug --no-sync get /a
--endpoints http://127.0.0.1:1 get /a
--endpoints http://127.0.0.1:1 --no-sync get /a
--endpoints http://127.0.0.1:1 cluster-health
--endpoints http://127.0.0.1:1 member list
--endpoints ::1 get /a
--endpoints 127.0.0.1:1 get /a
--peers http://127.0.0.1:1 get /a
--cert-file /none get /a
--ca-file /none get /a
`

// TestCommandLine runs Debian's etcdctl and ours against etcd 3.4 and against us: all four must tell the same.
func TestCommandLine(t *testing.T) {
	type side struct {
		name, program string
		server        *harness.Server
	}
	ours, old := harness.Programs(t).Control, harness.Programs(t).OldControl
	first, second := pair(t), pair(t)
	sides := []side{
		{"etcdctl at etcd", old, first[0]},
		{"etcdctl at ours", old, first[1]},
		{"ours at etcd", ours, second[0]},
		{"ours at ours", ours, second[1]},
	}
	for _, line := range strings.Split(strings.TrimSpace(commands), "\n") {
		line, stdin, _ := strings.Cut(line, " < ")
		var want string
		for i, s := range sides {
			own := ids(t, s.server)[s.server.PeerURL]
			words := strings.Fields(strings.NewReplacer("ID", own, "PEER", s.server.PeerURL).Replace(line))
			got := command(t, s.program, s.server, stdin, words...)
			got = ttl.ReplaceAllString(got, `"ttl":N`)
			if i == 0 {
				want = got
			} else if got != want {
				t.Errorf("%s: etcdctl at etcd tells\n%s\n%s tells\n%s", line, want, s.name, got)
			}
		}
	}
}
