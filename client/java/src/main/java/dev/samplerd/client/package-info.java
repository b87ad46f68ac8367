/**
 * A client of samplerd: logits in, samples out.
 *
 * <p>{@link dev.samplerd.client.SamplerClient} makes calls, {@link dev.samplerd.client.SamplerStream} many at once over
 * one call, {@link dev.samplerd.client.Tensors} turns arrays into messages. Requests and replies are the generated
 * messages of {@code dev.samplerd.v1}, so that everything the server can do can be asked for.
 */
package dev.samplerd.client;
