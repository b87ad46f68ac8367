package dev.samplerd.client;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;

import java.util.List;
import org.junit.Test;

/** A token is not shown to the network. */
public class SamplerClientBuilderTest {
  /** What is this machine. */
  @Test
  public void loopback() {
    for (String target : List.of("127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1", "dns:///localhost:1", "unix:/s")) {
      assertEquals(target, true, SamplerClientBuilder.isLoopback(target));
    }
    for (String target : List.of("10.0.0.1:1", "localhost.example:1", "127.0.0.1.example:1", "[::2]:1")) {
      assertEquals(target, false, SamplerClientBuilder.isLoopback(target));
    }
  }

  /** Every one of several servers counts. */
  @Test
  public void severalServers() {
    List<String> mixed = List.of("127.0.0.1:1", "10.0.0.1:1");
    assertThrows(IllegalStateException.class, () -> SamplerClient.builder(mixed).token("t").build());
    SamplerClient.builder(List.of("127.0.0.1:1", "[::1]:1")).token("t").connections(2).build().close();
    assertThrows(IllegalArgumentException.class, () -> SamplerClient.builder(List.of()));
    assertThrows(IllegalArgumentException.class, () -> SamplerClient.builder("127.0.0.1:1").connections(0));
  }

  /** Refused unless insisted on. */
  @Test
  public void plaintextToken() {
    assertThrows(IllegalStateException.class, () -> SamplerClient.builder("10.0.0.1:1").token("t").build());
    SamplerClient.builder("10.0.0.1:1").token("t").allowPlaintextToken().build().close();
    SamplerClient.builder("10.0.0.1:1").token("t").tls().build().close();
    SamplerClient.builder("127.0.0.1:1").token("t").build().close();
  }
}
