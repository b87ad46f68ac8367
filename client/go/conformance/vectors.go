package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"

	samplerd "samplerd.dev/go"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// vectors is what of vectors.json is needed here.
type vectors struct {
	Tolerance  float64 `json:"tolerance"`
	Calls      []call  `json:"calls"`
	Parameters struct {
		Tables     [][][]float32 `json:"tables"`
		Seed       uint64        `json:"seed"`
		NumSamples int           `json:"num_samples"`
		Cases      []parameter   `json:"cases"`
	} `json:"parameters"`
	Arrays      []array     `json:"arrays"`
	Guidance    []guidance  `json:"guidance"`
	Drafts      []draft     `json:"drafts"`
	Frequencies []frequency `json:"frequencies"`
	Chunks      struct {
		Rows  [][]float32 `json:"rows"`
		Cases []chunked   `json:"cases"`
	} `json:"chunks"`
	Slow struct {
		VocabSize  int `json:"vocab_size"`
		Modulus    int `json:"modulus"`
		NumSamples int `json:"num_samples"`
	} `json:"slow"`
}

type call struct {
	Name    string         `json:"name"`
	RPC     string         `json:"rpc"`
	Request []byte         `json:"request"`
	Reply   map[string]any `json:"reply"`
	Error   *struct {
		Code   uint32   `json:"code"`
		Fields []string `json:"fields"`
	} `json:"error"`
}

type chunked struct {
	Name        string  `json:"name"`
	Seed        uint64  `json:"seed"`
	DrawOffset  uint64  `json:"draw_offset"`
	Temperature float64 `json:"temperature"`
	NumSamples  int     `json:"num_samples"`
	Samples     []int32 `json:"samples"`
}

type parameter struct {
	Name    string          `json:"name"`
	Table   int             `json:"table"`
	Params  json.RawMessage `json:"params"`
	Samples []int32         `json:"samples"`
}

type guidance struct {
	Name       string      `json:"name"`
	Rows       [][]float32 `json:"rows"`
	Guidance   [][]float32 `json:"guidance"`
	Scale      float64     `json:"guidance_scale"`
	TopK       int         `json:"top_k"`
	Seed       uint64      `json:"seed"`
	NumSamples int         `json:"num_samples"`
	Samples    []int32     `json:"samples"`
}

type draft struct {
	Name        string      `json:"name"`
	DraftIDs    []int32     `json:"draft_ids"`
	Parents     []int32     `json:"parents"`
	Draft       [][]float32 `json:"draft"`
	Target      [][]float32 `json:"target"`
	Temperature float64     `json:"temperature"`
	Seed        uint64      `json:"seed"`
	Samples     []int32     `json:"samples"`
	Accepted    uint32      `json:"accepted"`
	Path        []uint32    `json:"path"`
}

type array struct {
	Name        string      `json:"name"`
	Rows        [][]float32 `json:"rows"`
	Dtype       string      `json:"dtype"`
	Temperature float64     `json:"temperature"`
	Seed        json.Number `json:"seed"`
	NumSamples  int         `json:"num_samples"`
	Data        []byte      `json:"data"`
	Samples     []int32     `json:"samples"`
}

type frequency struct {
	Name          string    `json:"name"`
	Request       []byte    `json:"request"`
	Probabilities []float64 `json:"probabilities"`
	Draws         float64   `json:"draws"`
	Critical      float64   `json:"critical"`
}

// compare holds a reply against the fields it should have.
func (v *vectors) compare(name string, reply proto.Message, want map[string]any) error {
	text, err := protojson.MarshalOptions{UseProtoNames: true, UseEnumNumbers: true}.Marshal(reply)
	if err != nil {
		return err
	}
	var got map[string]any
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&got); err != nil {
		return err
	}
	if !isSame(got, want, v.Tolerance) {
		return fmt.Errorf("%s: got %s, not %v", name, text, want)
	}
	return nil
}

// isSame compares ProtoJSON: floats within the tolerance, all else exactly. Integers of 32 bits are exact as floats and
// further apart than the tolerance.
func isSame(got, want any, tolerance float64) bool {
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		return ok && isSameMessage(got, want, tolerance)
	case []any:
		got, ok := got.([]any)
		if !ok || len(got) != len(want) {
			return false
		}
		for i := range want {
			if !isSame(got[i], want[i], tolerance) {
				return false
			}
		}
		return true
	case float64:
		got, ok := got.(float64)
		return ok && math.Abs(got-want) <= tolerance
	default: // strings, with NaN and the infinities, and booleans
		return got == want
	}
}

func isSameMessage(got, want map[string]any, tolerance float64) bool {
	delete(got, "timing")
	delete(got, "message") // of a row error: a text for people
	delete(want, "message")
	if len(got) != len(want) {
		return false
	}
	_, isLogprobs := want["kind"]
	for field, value := range want {
		same := isSame
		if isLogprobs && field == "raw_samples" {
			same = isSameRaw
		}
		if !same(got[field], value, tolerance) {
			return false
		}
	}
	return true
}

// isSameRaw compares binary32 in base64.
func isSameRaw(got, want any, tolerance float64) bool {
	ours, theirs := floats(got), floats(want)
	if len(ours) != len(theirs) {
		return false
	}
	for i := range ours {
		a, b := float64(ours[i]), float64(theirs[i])
		isClose := math.Abs(a-b) <= tolerance || a == b || math.IsNaN(a) && math.IsNaN(b)
		if !isClose {
			return false
		}
	}
	return true
}

func floats(value any) []float32 {
	text, _ := value.(string)
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	return samplerd.Float32s(raw)
}
