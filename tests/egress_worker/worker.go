package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/livekit/protocol/egress"
	"github.com/livekit/protocol/livekit"
	"github.com/livekit/protocol/rpc"
	"github.com/livekit/psrpc"
)

// bytesPerSecond is the size of what is "recorded", so that results have one.
const bytesPerSecond = 16_000

// worker is one Egress service with its recordings.
type worker struct {
	io        rpc.IOInfoClient
	bus       psrpc.MessageBus
	internal  rpc.EgressInternalServer
	directory string

	out sync.Mutex

	mu    sync.Mutex
	mode  command
	infos map[string]*livekit.EgressInfo
}

func newWorker(io rpc.IOInfoClient, bus psrpc.MessageBus, directory string) *worker {
	return &worker{
		io: io, bus: bus, directory: directory,
		mode:  command{Start: "accept", Auto: true},
		infos: map[string]*livekit.EgressInfo{},
	}
}

func (w *worker) register() error {
	internal, err := rpc.NewEgressInternalServer(w, w.bus)
	if err != nil {
		return err
	}
	w.internal = internal
	return internal.RegisterStartEgressTopic("")
}

func (w *worker) say(e event) {
	line, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	w.out.Lock()
	defer w.out.Unlock()
	_, _ = os.Stdout.Write(append(line, '\n'))
}

func (w *worker) setMode(c command) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mode = c
}

func (w *worker) currentMode() command {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mode
}

// StartEgressAffinity: a worker that is full does not apply.
func (w *worker) StartEgressAffinity(context.Context, *rpc.StartEgressRequest) float32 {
	if w.currentMode().Start == "decline" {
		return -1
	}
	return 1
}

// StartEgress takes a recording, as the mode says.
func (w *worker) StartEgress(_ context.Context, req *rpc.StartEgressRequest) (*livekit.EgressInfo, error) {
	mode := w.currentMode()
	asked, err := protojson.Marshal(req)
	if err != nil {
		return nil, err
	}
	w.say(event{Event: "asked", EgressID: req.EgressId, Request: asked})
	switch mode.Start {
	case "unavailable":
		return nil, psrpc.NewErrorf(psrpc.Unavailable, "not enough CPU")
	case "fail":
		time.Sleep(time.Duration(mode.DelayMs) * time.Millisecond)
		return nil, psrpc.NewErrorf(psrpc.InvalidArgument, "request has missing or invalid field: output")
	}
	info, err := infoOf(req)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.infos[info.EgressId] = info
	shown := proto.Clone(info).(*livekit.EgressInfo)
	w.mu.Unlock()
	time.Sleep(time.Duration(mode.LateMs) * time.Millisecond)
	// Whether anybody still waits for the answer or not.
	if _, err := w.io.CreateEgress(context.Background(), shown); err != nil {
		return nil, err
	}
	handler, err := rpc.NewEgressHandlerServer(&handler{w, info.EgressId}, w.bus)
	if err != nil {
		return nil, err
	}
	if err := handler.RegisterStopEgressTopic(info.EgressId); err != nil {
		return nil, err
	}
	if err := handler.RegisterUpdateStreamTopic(info.EgressId); err != nil {
		return nil, err
	}
	time.Sleep(time.Duration(mode.DelayMs) * time.Millisecond)
	if mode.Auto {
		go w.report(info.EgressId, func(info *livekit.EgressInfo) {
			if info.Status == livekit.EgressStatus_EGRESS_STARTING {
				info.Status = livekit.EgressStatus_EGRESS_ACTIVE
				info.StartedAt = time.Now().UnixNano()
			}
		})
	}
	return shown, nil
}

// ListActiveEgress is asked for by nobody here.
func (w *worker) ListActiveEgress(context.Context, *rpc.ListActiveEgressRequest) (*rpc.ListActiveEgressResponse, error) {
	return nil, psrpc.ErrUnimplemented
}

// infoOf is what Egress makes of a request: secrets are taken out of what it tells.
func infoOf(req *rpc.StartEgressRequest) (*livekit.EgressInfo, error) {
	info := &livekit.EgressInfo{EgressId: req.EgressId, RoomId: req.RoomId, UpdatedAt: time.Now().UnixNano()}
	info.SourceType = livekit.EgressSourceType_EGRESS_SOURCE_TYPE_SDK
	switch r := req.Request.(type) {
	case *rpc.StartEgressRequest_Track:
		track := proto.Clone(r.Track).(*livekit.TrackEgressRequest)
		if file := track.GetFile(); file != nil {
			egress.RedactUpload(file)
		}
		info.RoomName = track.RoomName
		info.Request = &livekit.EgressInfo_Track{Track: track}
	case *rpc.StartEgressRequest_TrackComposite:
		composite := proto.Clone(r.TrackComposite).(*livekit.TrackCompositeEgressRequest)
		for _, file := range composite.FileOutputs {
			egress.RedactUpload(file)
		}
		info.RoomName = composite.RoomName
		info.Request = &livekit.EgressInfo_TrackComposite{TrackComposite: composite}
	default:
		return nil, psrpc.NewErrorf(psrpc.InvalidArgument, "this stand-in does not record %T", req.Request)
	}
	return info, nil
}

// report changes a recording and tells LiveKit.
func (w *worker) report(id string, change func(*livekit.EgressInfo)) {
	w.mu.Lock()
	info, ok := w.infos[id]
	if !ok {
		w.mu.Unlock()
		return
	}
	change(info)
	info.UpdatedAt = time.Now().UnixNano()
	told := proto.Clone(info).(*livekit.EgressInfo)
	w.mu.Unlock()
	if _, err := w.io.UpdateEgress(context.Background(), told); err != nil {
		fmt.Fprintln(os.Stderr, "UpdateEgress:", err)
	}
}

// merge puts fields of an EgressInfo over those of a recording.
func (w *worker) merge(id string, fields json.RawMessage) error {
	over := &livekit.EgressInfo{}
	if err := protojson.Unmarshal(fields, over); err != nil {
		return err
	}
	w.report(id, func(info *livekit.EgressInfo) { proto.Merge(info, over) })
	return nil
}

// finish is what Egress tells of a recording that was stopped: its file, or that nothing was recorded.
func (w *worker) finish(info *livekit.EgressInfo) {
	now := time.Now().UnixNano()
	info.EndedAt = now
	if info.StartedAt == 0 {
		info.Status = livekit.EgressStatus_EGRESS_ABORTED
		info.Error = "Stop called before pipeline could start"
		return
	}
	info.Status = livekit.EgressStatus_EGRESS_COMPLETE
	path := pathOf(info)
	if path == "" {
		return
	}
	duration := now - info.StartedAt
	size := duration*bytesPerSecond/int64(time.Second) + 1
	info.FileResults = []*livekit.FileInfo{{
		Filename: path, Location: path, StartedAt: info.StartedAt, EndedAt: now, Duration: duration, Size: size,
	}}
	if w.directory != "" {
		if err := write(filepath.Join(w.directory, path), size); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

func pathOf(info *livekit.EgressInfo) string {
	if file := info.GetTrack().GetFile(); file != nil {
		return file.Filepath
	}
	for _, file := range info.GetTrackComposite().GetFileOutputs() {
		return file.Filepath
	}
	return ""
}

func write(path string, size int64) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, make([]byte, size), 0o644)
}

// handler is what answers for one recording.
type handler struct {
	*worker
	id string
}

// StopEgress ends the recording, by itself where the mode is auto.
func (h *handler) StopEgress(_ context.Context, req *livekit.StopEgressRequest) (*livekit.EgressInfo, error) {
	h.say(event{Event: "stopped", EgressID: req.EgressId})
	h.report(h.id, func(info *livekit.EgressInfo) {
		if info.Status < livekit.EgressStatus_EGRESS_ENDING {
			info.Status = livekit.EgressStatus_EGRESS_ENDING
		}
	})
	h.mu.Lock()
	shown := proto.Clone(h.infos[h.id]).(*livekit.EgressInfo)
	h.mu.Unlock()
	if h.currentMode().Auto {
		go h.report(h.id, func(info *livekit.EgressInfo) {
			if info.Status == livekit.EgressStatus_EGRESS_ENDING {
				h.finish(info)
			}
		})
	}
	return shown, nil
}

// UpdateStream is refused by Egress for recordings to files, which shows that it is alive.
func (h *handler) UpdateStream(_ context.Context, req *livekit.UpdateStreamRequest) (*livekit.EgressInfo, error) {
	h.say(event{Event: "pinged", EgressID: req.EgressId})
	return nil, psrpc.NewErrorf(psrpc.InvalidArgument, "UpdateStream called on non-streaming egress")
}

// UpdateEgress is asked for by nobody here.
func (h *handler) UpdateEgress(context.Context, *livekit.UpdateEgressRequest) (*livekit.EgressInfo, error) {
	return nil, psrpc.ErrUnimplemented
}
