package dev.samplerd.client;

import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.ConnectivityState;
import io.grpc.ConnectivityStateInfo;
import io.grpc.EquivalentAddressGroup;
import io.grpc.LoadBalancer;
import io.grpc.LoadBalancerProvider;
import io.grpc.LoadBalancerRegistry;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.SynchronizationContext.ScheduledHandle;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Sends calls in turn to the servers that say that they serve (grpc.health.v1): one that starts, drains or is gone gets none.
 *
 * <p>grpc-java's own round_robin watches no health unless grpc-services is there, which this client does without. All
 * methods run in the synchronization context of the channel.
 */
final class HealthyRoundRobin extends LoadBalancer {
  static final String POLICY = "samplerd_healthy_round_robin";

  private static final String SERVICE = "samplerd.v1.SamplerService";
  private static final long FIRST_PAUSE_MILLIS = 100;
  private static final long LONGEST_PAUSE_MILLIS = 1000;

  /** The method; its messages are bytes, as each has one field. */
  private static final MethodDescriptor<byte[], byte[]> WATCH =
      MethodDescriptor.newBuilder(new Bytes(), new Bytes())
          .setFullMethodName("grpc.health.v1.Health/Watch")
          .setType(MethodDescriptor.MethodType.SERVER_STREAMING)
          .build();

  private final Helper helper;
  private final Map<EquivalentAddressGroup, Server> servers = new HashMap<>();
  private final AtomicInteger turn = new AtomicInteger();

  private HealthyRoundRobin(Helper helper) {
    this.helper = helper;
  }

  /** Makes the policy known to gRPC; again does no harm. */
  static void register() {
    Registration.once();
  }

  /** Holds what is registered once. */
  private static final class Registration {
    static {
      LoadBalancerRegistry.getDefaultRegistry().register(new Provider());
    }

    static void once() {}
  }

  @Override
  public void handleResolvedAddresses(ResolvedAddresses resolved) {
    Map<EquivalentAddressGroup, Server> left = new HashMap<>(servers);
    servers.clear();
    for (EquivalentAddressGroup group : resolved.getAddresses()) {
      EquivalentAddressGroup key = new EquivalentAddressGroup(group.getAddresses());
      Server known = left.remove(key);
      servers.put(key, known == null ? new Server(group) : known);
    }
    left.values().forEach(Server::end);
    show();
  }

  @Override
  public void handleNameResolutionError(Status error) {
    if (servers.isEmpty()) {
      helper.updateBalancingState(ConnectivityState.TRANSIENT_FAILURE, new Fixed(PickResult.withError(error)));
    }
  }

  @Override
  public void shutdown() {
    servers.values().forEach(Server::end);
    servers.clear();
  }

  /** Tells the channel where calls go now. */
  private void show() {
    List<Subchannel> serving = new ArrayList<>();
    boolean isAnyUnknown = false;
    for (Server server : servers.values()) {
      isAnyUnknown |= server.health == Health.UNKNOWN;
      if (server.health == Health.SERVING) {
        serving.add(server.subchannel);
      }
    }
    if (!serving.isEmpty()) {
      helper.updateBalancingState(ConnectivityState.READY, new InTurn(serving, turn));
    } else if (isAnyUnknown) {
      helper.updateBalancingState(ConnectivityState.CONNECTING, new Fixed(PickResult.withNoResult())); // calls wait
    } else {
      Status none = Status.UNAVAILABLE.withDescription("none of the servers is serving");
      helper.updateBalancingState(ConnectivityState.TRANSIENT_FAILURE, new Fixed(PickResult.withError(none)));
    }
  }

  /** What is known of a server. */
  private enum Health {
    UNKNOWN,
    SERVING,
    NOT_SERVING
  }

  /** One server, its connection, and the call that watches it. */
  private final class Server {
    private final Subchannel subchannel;
    private Health health = Health.UNKNOWN;
    private ClientCall<byte[], byte[]> watch;
    private ScheduledHandle pause;
    private long pauseMillis = FIRST_PAUSE_MILLIS;
    private boolean isReady;

    Server(EquivalentAddressGroup group) {
      subchannel = helper.createSubchannel(CreateSubchannelArgs.newBuilder().setAddresses(group).build());
      subchannel.start(this::become);
      subchannel.requestConnection();
    }

    private void become(ConnectivityStateInfo info) {
      isReady = info.getState() == ConnectivityState.READY;
      if (isReady) {
        watch();
        return;
      }
      stopWatching();
      if (info.getState() == ConnectivityState.IDLE) {
        subchannel.requestConnection();
      }
      if (info.getState() == ConnectivityState.TRANSIENT_FAILURE || health == Health.SERVING) {
        set(Health.NOT_SERVING);
      }
    }

    private void watch() {
      stopWatching();
      ClientCall<byte[], byte[]> call = subchannel.asChannel().newCall(WATCH, CallOptions.DEFAULT);
      watch = call;
      call.start(new Watcher(this, call), new Metadata());
      byte[] name = SERVICE.getBytes(StandardCharsets.UTF_8);
      byte[] request = new byte[name.length + 2];
      request[0] = 0x0a; // field 1, a string
      request[1] = (byte) name.length;
      System.arraycopy(name, 0, request, 2, name.length);
      call.sendMessage(request);
      call.halfClose();
      call.request(1);
    }

    void told(ClientCall<byte[], byte[]> by, byte[] reply) {
      if (by == watch) {
        pauseMillis = FIRST_PAUSE_MILLIS;
        boolean isServing = reply.length == 2 && reply[0] == 0x08 && reply[1] == 1; // field 1 is SERVING
        set(isServing ? Health.SERVING : Health.NOT_SERVING);
        by.request(1);
      }
    }

    void ended(ClientCall<byte[], byte[]> call, Status status) {
      if (call != watch) {
        return;
      }
      watch = null;
      // As gRPC has it: a server that knows no health is taken for healthy, as long as it is there.
      set(status.getCode() == Status.Code.UNIMPLEMENTED && isReady ? Health.SERVING : Health.NOT_SERVING);
      if (isReady && health == Health.NOT_SERVING) {
        pause =
            helper
                .getSynchronizationContext()
                .schedule(this::watch, pauseMillis, TimeUnit.MILLISECONDS, helper.getScheduledExecutorService());
        pauseMillis = Math.min(pauseMillis * 2, LONGEST_PAUSE_MILLIS);
      }
    }

    private void stopWatching() {
      if (pause != null) {
        pause.cancel();
        pause = null;
      }
      if (watch != null) {
        ClientCall<byte[], byte[]> call = watch;
        watch = null;
        call.cancel("no longer watched", null);
      }
    }

    void end() {
      isReady = false;
      stopWatching();
      subchannel.shutdown();
    }

    private void set(Health now) {
      if (health != now) {
        health = now;
        show();
      }
    }
  }

  /** Brings what a watching call hears into the synchronization context. */
  private final class Watcher extends ClientCall.Listener<byte[]> {
    private final Server server;
    private final ClientCall<byte[], byte[]> call;

    Watcher(Server server, ClientCall<byte[], byte[]> call) {
      this.server = server;
      this.call = call;
    }

    @Override
    public void onMessage(byte[] reply) {
      helper.getSynchronizationContext().execute(() -> server.told(call, reply));
    }

    @Override
    public void onClose(Status status, Metadata trailers) {
      helper.getSynchronizationContext().execute(() -> server.ended(call, status));
    }
  }

  /** Picks the next one. */
  private static final class InTurn extends SubchannelPicker {
    private final List<Subchannel> serving;
    private final AtomicInteger turn;

    InTurn(List<Subchannel> serving, AtomicInteger turn) {
      this.serving = serving;
      this.turn = turn;
    }

    @Override
    public PickResult pickSubchannel(PickSubchannelArgs args) {
      return PickResult.withSubchannel(serving.get(Math.floorMod(turn.getAndIncrement(), serving.size())));
    }
  }

  /** Says the same to every call. */
  private static final class Fixed extends SubchannelPicker {
    private final PickResult result;

    Fixed(PickResult result) {
      this.result = result;
    }

    @Override
    public PickResult pickSubchannel(PickSubchannelArgs args) {
      return result;
    }
  }

  /** Makes balancers. */
  private static final class Provider extends LoadBalancerProvider {
    @Override
    public boolean isAvailable() {
      return true;
    }

    @Override
    public int getPriority() {
      return 5;
    }

    @Override
    public String getPolicyName() {
      return POLICY;
    }

    @Override
    public LoadBalancer newLoadBalancer(Helper helper) {
      return new HealthyRoundRobin(helper);
    }
  }

  /** Messages as they are. */
  private static final class Bytes implements MethodDescriptor.Marshaller<byte[]> {
    @Override
    public InputStream stream(byte[] value) {
      return new ByteArrayInputStream(value);
    }

    @Override
    public byte[] parse(InputStream stream) {
      try {
        return stream.readAllBytes();
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }
  }
}
