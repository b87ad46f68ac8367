// Package samplerd asks a samplerd server for samples: rows of logits in, drawn ids out.
//
//	client, err := samplerd.Dial("127.0.0.1:50051")
//	...
//	defer client.Close()
//	result, err := client.Sample(ctx, samplerd.F32(logits, 1), samplerd.Temperature(0.7), samplerd.NumSamples(5))
//
// Deadlines and cancellation are those of the context. Failures are of type [*Error]. Requests that no option can
// describe are built from the generated types of samplerd.dev/go/samplerd/v1 and sent with [Client.Do].
package samplerd
