package main

import (
	"context"
	"fmt"
	"log"
	"os"

	samplerd "samplerd.dev/go"
)

func main() {
	client, err := samplerd.Dial(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	result, err := client.Sample(context.Background(), samplerd.F32([]float32{1.0, 2.0, 0.5, 1.5}, 1),
		samplerd.Temperature(0.7), samplerd.NumSamples(5), samplerd.Seed(1234))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Row(0))
}
