package v2

import (
	"fmt"
	"strings"
	"testing"

	"quorate/tests/harness"
)

// Every error of etcd 3.4's list that a request alone can meet with: number, text and status are what clients compare.
func TestErrorsByNumber(t *testing.T) {
	servers := pair(t)
	for _, server := range servers {
		for _, made := range []request{
			{method: "PUT", path: "/v2/keys/file", form: "value=1"},
			{method: "PUT", path: "/v2/keys/directory/child", form: "value=1"},
		} {
			if answer := ask(server, made); !strings.HasPrefix(answer, "201\n") {
				t.Fatalf("%s: %s", made, answer)
			}
		}
	}
	holds := func(status, number int, message string, r request) {
		t.Helper()
		check(t, servers, r)
		for _, server := range servers {
			answer := ask(server, r)
			text := fmt.Sprintf(`{"errorCode":%d,"message":"%s","cause":`, number, message)
			if !strings.HasPrefix(answer, fmt.Sprint(status, "\n")) || !strings.Contains(answer, text) {
				t.Errorf("%s\nwanted %d %s\ngot    %s", r, status, text, answer)
			}
		}
	}
	holds(404, 100, "Key not found", request{method: "GET", path: "/v2/keys/none"})
	holds(412, 101, "Compare failed", request{method: "PUT", path: "/v2/keys/file", form: "prevValue=zz&value=3"})
	holds(403, 102, "Not a file", request{method: "PUT", path: "/v2/keys/directory", form: "value=1"})
	holds(400, 104, "Not a directory", request{method: "PUT", path: "/v2/keys/file/child", form: "value=1"})
	holds(412, 105, "Key already exists", request{method: "PUT", path: "/v2/keys/file", form: "prevExist=false&value=1"})
	holds(400, 107, "Root is read only", request{method: "PUT", path: "/v2/keys/", form: "value=1"})
	holds(403, 108, "Directory not empty", request{method: "DELETE", path: "/v2/keys/directory?dir=true"})
	holds(400, 201, "PrevValue is Required in POST form", request{method: "PUT", path: "/v2/keys/file", form: "prevValue=&value=1"})
	holds(400, 202, "The given TTL in POST form is not a number", request{method: "PUT", path: "/v2/keys/file", form: "ttl=x&value=1"})
	holds(400, 203, "The given index in POST form is not a number", request{method: "PUT", path: "/v2/keys/file", form: "prevIndex=x&value=1"})
	holds(400, 209, "Invalid field", request{method: "PUT", path: "/v2/keys/file", form: "prevExist=x&value=1"})
	holds(400, 210, "Invalid POST form", request{method: "PUT", path: "/v2/keys/file", form: "value=%zz"})
	holds(400, 211, "Value provided on refresh", request{method: "PUT", path: "/v2/keys/file", form: "refresh=true&ttl=9&value=1"})
	holds(400, 212, "A TTL must be provided on refresh", request{method: "PUT", path: "/v2/keys/file", form: "refresh=true"})
	// The history reaches back to 1,000 events.
	for _, server := range servers {
		for number := range 1_001 {
			ask(server, request{method: "PUT", path: "/v2/keys/file", form: fmt.Sprint("value=", number)})
		}
	}
	holds(400, 401, "The event in requested index is outdated and cleared", request{method: "GET", path: "/v2/keys/file?wait=true&waitIndex=1"})
}

// Without a leader that could be asked, etcd's number for it.
func TestErrorWithoutALeader(t *testing.T) {
	for _, binary := range []string{oldEtcd(t), harness.Programs(t).Server} {
		flags := []string{}
		if binary == oldEtcd(t) {
			flags = append(flags, "--enable-v2=true")
		}
		cluster := harness.StartCluster(t, binary, 3, flags...)
		alone := cluster.Leader()
		for _, member := range cluster.Followers() {
			member.CloseConn()
			member.Kill()
		}
		harness.Eventually(t, harness.ReadyLimit, "the loss of the lead", func() error {
			if status, err := alone.Status(); err != nil || status.Leader != 0 {
				return harness.Wanted("%v %v", status, err)
			}
			return nil
		})
		answer := ask(alone, request{method: "PUT", path: "/v2/keys/a", form: "value=1"})
		text := `{"errorCode":300,"message":"Raft Internal Error","cause":"`
		if !strings.HasPrefix(answer, "500\n") || !strings.Contains(answer, text) {
			t.Errorf("%s: %s", binary, answer)
		}
	}
}
