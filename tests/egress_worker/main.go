// Stands in for LiveKit Egress in tests: a worker on LiveKit's own bus (psrpc over Redis) that records nothing.
//
// It takes StartTrackEgress and StartTrackCompositeEgress of a real LiveKit server as Egress does: it is chosen by
// affinity, tells the server of the recording and of every change of it (IOInfo), and answers StopEgress and
// UpdateStream for the recordings that it has. What it does is told by lines of JSON on standard input, and what it was
// asked goes to standard output, a line each; see `command` and `event`. It ends with standard input.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"github.com/redis/go-redis/v9"

	"github.com/livekit/protocol/rpc"
	"github.com/livekit/psrpc"
)

// command is a line of standard input.
type command struct {
	// Do is `mode` (take over what follows), or `update` (tell LiveKit that a recording has changed).
	Do string `json:"do"`
	// Start says what StartEgress does: `accept`, `decline` (as a worker that is full: it does not apply), `unavailable` (it applies,
	// is chosen, and then refuses for now), `fail` (it refuses for good).
	Start string `json:"start"`
	// Auto: recordings become ACTIVE by themselves, and COMPLETE with a file when they are stopped.
	Auto bool `json:"auto"`
	// DelayMs is how long StartEgress takes to answer, after LiveKit was told of the recording; also to refuse for good.
	DelayMs int `json:"delay_ms"`
	// LateMs is how long it takes before LiveKit is told of the recording.
	LateMs int `json:"late_ms"`
	// EgressID is the recording of `update`.
	EgressID string `json:"egress_id"`
	// Info of `update`: the fields of an EgressInfo that change, as protojson.
	Info json.RawMessage `json:"info"`
}

// event is a line of standard output.
type event struct {
	// Event is `ready`, `asked` (StartEgress), `stopped` (StopEgress), `pinged` (UpdateStream), `mode` (it holds) or `updated` (`update` is done).
	Event    string `json:"event"`
	EgressID string `json:"egress_id,omitempty"`
	// Request of `asked`, as protojson, secrets included: what LiveKit handed on.
	Request json.RawMessage `json:"request,omitempty"`
	Error   string          `json:"error,omitempty"`
}

func main() {
	address := flag.String("redis", "", "host:port of the Redis that LiveKit uses")
	directory := flag.String("dir", "", "where files that go to Egress' own disk are written; empty: nowhere")
	flag.Parse()
	if err := run(*address, *directory); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(address, directory string) error {
	client := redis.NewClient(&redis.Options{Addr: address})
	if err := client.Ping(context.Background()).Err(); err != nil {
		return fmt.Errorf("redis at %s does not answer: %w", address, err)
	}
	bus := psrpc.NewRedisMessageBus(client)
	io, err := rpc.NewIOInfoClient(bus)
	if err != nil {
		return err
	}
	w := newWorker(io, bus, directory)
	if err := w.register(); err != nil {
		return err
	}
	w.say(event{Event: "ready"})
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return err
		}
		switch c.Do {
		case "mode":
			w.setMode(c)
			w.say(event{Event: "mode"})
		case "update":
			said := event{Event: "updated", EgressID: c.EgressID}
			if err := w.merge(c.EgressID, c.Info); err != nil {
				said.Error = err.Error()
			}
			w.say(said)
		default:
			return fmt.Errorf("unknown command %q", c.Do)
		}
	}
	return lines.Err()
}
