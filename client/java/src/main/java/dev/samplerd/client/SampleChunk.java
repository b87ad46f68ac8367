package dev.samplerd.client;

import dev.samplerd.v1.SampleResponse;

/**
 * A part of a large draw.
 *
 * @param offset index of its first id in the row-major sequence of all rows x S ids
 * @param samples the ids drawn, in whichever form they came
 * @param reply all that came with them: its number ({@code chunk}), the seed that was used, whether it is the last
 *     ({@code final})
 */
public record SampleChunk(long offset, int[] samples, SampleResponse reply) {}
