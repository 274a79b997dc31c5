package v2

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"quorate/tests/harness"
)

type leaderPage struct {
	Leader    string `json:"leader"`
	Followers map[string]struct {
		Latency struct {
			Current           float64 `json:"current"`
			Average           float64 `json:"average"`
			StandardDeviation float64 `json:"standardDeviation"`
			Minimum           float64 `json:"minimum"`
			Maximum           float64 `json:"maximum"`
		} `json:"latency"`
		Counts struct {
			Fail    uint64 `json:"fail"`
			Success uint64 `json:"success"`
		} `json:"counts"`
	} `json:"followers"`
}

// TestLeaderStatistics reads what the leader says of its followers; nobody else says it.
func TestLeaderStatistics(t *testing.T) {
	for _, binary := range []string{oldEtcd(t), harness.Programs(t).Server} {
		var flags []string
		if binary == oldEtcd(t) {
			flags = []string{"--enable-v2=true"}
		}
		cluster := harness.StartCluster(t, binary, 3, flags...)
		var leaders, others int
		harness.Eventually(t, harness.ReadyLimit, "figures of both followers", func() error {
			leaders, others = 0, 0
			for _, member := range cluster.Members {
				answer := ask(member, request{method: "GET", path: "/v2/stats/leader"})
				if strings.HasPrefix(answer, "403\n") && strings.Contains(answer, "not current leader") {
					others++
					continue
				}
				response, err := http.Get(member.ClientURL + "/v2/stats/leader")
				if err != nil {
					return err
				}
				var page leaderPage
				decoder := json.NewDecoder(response.Body)
				decoder.DisallowUnknownFields()
				err = decoder.Decode(&page)
				response.Body.Close()
				if err != nil {
					return err
				}
				ids := ids(t, member)
				if len(page.Followers) != 2 || page.Leader != ids[member.PeerURL] {
					return harness.Wanted("two followers of %s, got %+v", ids[member.PeerURL], page)
				}
				for id, follower := range page.Followers {
					latency := follower.Latency
					if follower.Counts.Success == 0 || latency.Minimum > latency.Average || latency.Average > latency.Maximum ||
						latency.Current > latency.Maximum || latency.Minimum <= 0 {
						return harness.Wanted("figures of %s that fit, got %+v", id, follower)
					}
				}
				leaders++
			}
			if leaders != 1 || others != 2 {
				return harness.Wanted("one leader, got %d beside %d", leaders, others)
			}
			return nil
		})
	}
}
