package v2

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"quorate/tests/harness"
)

// What differs between two clusters: ids.
var memberID = regexp.MustCompile(`("id":"|removed: |member: )[0-9a-f]{6,}`)

// ids answers the members' ids by their peer URL.
func ids(t testing.TB, server *harness.Server) map[string]string {
	response, err := http.Get(server.ClientURL + "/v2/members")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var list struct {
		Members []struct {
			ID       string   `json:"id"`
			PeerURLs []string `json:"peerURLs"`
		} `json:"members"`
	}
	if err := json.NewDecoder(response.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, member := range list.Members {
		for _, peer := range member.PeerURLs {
			found[peer] = member.ID
		}
	}
	return found
}

// TestChangesOfTheOnlyMember asks what costs no quorum.
func TestChangesOfTheOnlyMember(t *testing.T) {
	servers := pair(t)
	for _, line := range []string{
		`DELETE /v2/members/OWN`,
		`PUT /v2/members/OWN {"peerURLs":["PEER"]}`,
		`PUT /v2/members/OWN {"peerURLs":["PEER","http://127.0.0.1:1"]}`,
		`PUT /v2/members/OWN {"peerURLs":["PEER"]}`,
		`PUT /v2/members/OWN {"peerURLs":["foo"]}`,
		`PUT /v2/members/OWN x`,
		`PUT /v2/members/12 x`,
		`PUT /v2/members/12 {"peerURLs":["http://127.0.0.1:7"]}`,
		`PUT /v2/members/12 {"peerURLs":["PEER"]}`,
		`PUT /v2/members/012 {"peerURLs":["http://127.0.0.1:7"]}`,
		`PUT /v2/members/ {"peerURLs":["http://127.0.0.1:7"]}`,
		`POST /v2/members {"peerURLs":["PEER"]}`,
		`POST /v2/members {"peerURLs":["http://127.0.0.1:7","PEER"]}`,
		`POST /v2/members peerURLs=x`,
		`POST /v2/members {"peerURLs":null}`,
		`POST /v2/members/x {"peerURLs":["PEER"]}`,
		`DELETE /v2/members/012`,
		`DELETE /v2/members/+12`,
		`DELETE /v2/members/11111111111111111`,
		`DELETE /v2/members/leader`,
		`GET /v2/keys`,
		`GET /v2/members/leader`,
	} {
		var answers [2]string
		for i, server := range servers {
			own := ids(t, server)[server.PeerURL]
			fields := strings.SplitN(strings.ReplaceAll(strings.ReplaceAll(line, "OWN", own), "PEER", server.PeerURL), " ", 3)
			r := request{method: fields[0], path: fields[1]}
			if len(fields) > 2 {
				r.form = fields[2]
			}
			answers[i] = memberID.ReplaceAllString(ask(server, r), "${1}ID")
		}
		if answers[0] != answers[1] {
			t.Errorf("%s\netcd answers\n%s\nwe answer\n%s", line, answers[0], answers[1])
		}
	}
}

// TestMembersComeAndGo replaces a member of three over the v2 API, here and with etcd, and compares each answer.
func TestMembersComeAndGo(t *testing.T) {
	var transcripts [2]strings.Builder
	for i, binary := range []string{oldEtcd(t), harness.Programs(t).Server} {
		var flags []string
		if i == 0 {
			flags = []string{"--enable-v2=true"}
		}
		cluster := harness.StartCluster(t, binary, 3, flags...)
		first, gone := cluster.Members[0], cluster.Members[2]
		added := harness.NewServer(t, binary, "m3", flags...)
		names := strings.NewReplacer(
			first.ClientURL, "CLIENT0", first.PeerURL, "PEER0",
			cluster.Members[1].ClientURL, "CLIENT1", cluster.Members[1].PeerURL, "PEER1",
			gone.PeerURL, "PEER2", added.ClientURL, "CLIENT3", added.PeerURL, "PEER3",
		)
		note := func(line, answer string) {
			answer = memberID.ReplaceAllString(names.Replace(answer), "${1}ID")
			fmt.Fprintf(&transcripts[i], "%s\n%s\n", line, answer)
		}
		// A change may be refused until the members have known each other for some seconds.
		until := func(line, status string, r request) {
			var answer string
			harness.Eventually(t, harness.ReadyLimit, line, func() error {
				if answer = ask(first, r); !strings.HasPrefix(answer, status+"\n") {
					return harness.Wanted("%s", answer)
				}
				return nil
			})
			note(line, answer)
		}
		body := func(urls ...string) string {
			text, _ := json.Marshal(map[string][]string{"peerURLs": urls})
			return string(text)
		}
		goneID := ids(t, first)[gone.PeerURL]
		until("put a URL that is taken", "409", request{method: "PUT", path: "/v2/members/" + goneID, form: body(first.PeerURL)})
		until("delete", "204", request{method: "DELETE", path: "/v2/members/" + goneID})
		gone.AwaitExit(harness.ReadyLimit)
		until("delete again", "410", request{method: "DELETE", path: "/v2/members/" + goneID})
		note("put the removed", ask(first, request{method: "PUT", path: "/v2/members/" + goneID, form: body(gone.PeerURL)}))
		until("post", "201", request{method: "POST", path: "/v2/members", form: body(added.PeerURL, added.PeerURL+"0")})
		note("post again", ask(first, request{method: "POST", path: "/v2/members", form: body(added.PeerURL)}))
		note("post one more", ask(first, request{method: "POST", path: "/v2/members", form: body("http://127.0.0.1:9")}))
		addedID := ids(t, first)[added.PeerURL]
		until("put", "204", request{method: "PUT", path: "/v2/members/" + addedID, form: body(added.PeerURL)})
		added.Start(fmt.Sprintf("m0=%s,m1=%s,m3=%s", first.PeerURL, cluster.Members[1].PeerURL, added.PeerURL), "existing")
		added.AwaitReady()
		harness.Eventually(t, harness.ReadyLimit, "the new member's name", func() error {
			for _, server := range []*harness.Server{first, added} {
				if answer := ask(server, request{method: "GET", path: "/v2/members"}); !strings.Contains(answer, `"name":"m3"`) {
					return harness.Wanted("%s", answer)
				}
			}
			return nil
		})
		for _, server := range []*harness.Server{first, added} {
			note("machines", sortedMachines(ask(server, request{method: "GET", path: "/v2/machines"})))
		}
		note("set", ask(added, request{method: "PUT", path: "/v2/keys/a", form: "value=1"}))
	}
	if transcripts[0].String() != transcripts[1].String() {
		t.Errorf("etcd answers\n%s\nwe answer\n%s", transcripts[0].String(), transcripts[1].String())
	}
}

// sortedMachines leaves the addresses out: their order follows from the kernel's choice of ports.
func sortedMachines(answer string) string {
	at := strings.LastIndex(answer, "\n") + 1
	return fmt.Sprintf("%s%d machines", answer[:at], len(strings.Split(answer[at:], ", ")))
}
