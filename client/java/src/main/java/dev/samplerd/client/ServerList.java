package dev.samplerd.client;

import io.grpc.Attributes;
import io.grpc.EquivalentAddressGroup;
import io.grpc.NameResolver;
import io.grpc.NameResolverProvider;
import io.grpc.NameResolverRegistry;
import io.grpc.Status;
import java.net.InetSocketAddress;
import java.net.URI;
import java.util.ArrayList;
import java.util.List;

/** Resolves one name to several servers: {@code samplerd:///HOST:PORT,HOST:PORT}. */
final class ServerList extends NameResolver {
  private static final String SCHEME = "samplerd";

  private final String[] servers;
  private final Args args;
  private Listener2 listener;

  private ServerList(String[] servers, Args args) {
    this.servers = servers;
    this.args = args;
  }

  /** The one name of these servers, each {@code host:port}. */
  static String target(List<String> servers) {
    Registration.once();
    return SCHEME + ":///" + String.join(",", servers).replace("[", "%5B").replace("]", "%5D");
  }

  /** Holds what is registered once. */
  private static final class Registration {
    static {
      NameResolverRegistry.getDefaultRegistry().register(new Provider());
    }

    static void once() {}
  }

  @Override
  public String getServiceAuthority() {
    return servers[0];
  }

  @Override
  public void start(Listener2 listener) {
    this.listener = listener;
    refresh();
  }

  @Override
  public void refresh() {
    args.getOffloadExecutor().execute(this::resolve);
  }

  private void resolve() {
    List<EquivalentAddressGroup> groups = new ArrayList<>();
    for (String server : servers) {
      URI parts = URI.create("tcp://" + server);
      InetSocketAddress address = new InetSocketAddress(parts.getHost(), parts.getPort());
      if (!address.isUnresolved()) { // a name that nobody knows now may be known at the next refresh
        Attributes own =
            Attributes.newBuilder().set(EquivalentAddressGroup.ATTR_AUTHORITY_OVERRIDE, server).build();
        groups.add(new EquivalentAddressGroup(address, own));
      }
    }
    if (groups.isEmpty()) {
      listener.onError(Status.UNAVAILABLE.withDescription("none of the servers has a known address"));
    } else {
      listener.onResult(ResolutionResult.newBuilder().setAddresses(groups).build());
    }
  }

  @Override
  public void shutdown() {}

  /** Makes resolvers. */
  private static final class Provider extends NameResolverProvider {
    @Override
    protected boolean isAvailable() {
      return true;
    }

    @Override
    protected int priority() {
      return 1; // below that of DNS, which stays the default
    }

    @Override
    public String getDefaultScheme() {
      return SCHEME;
    }

    @Override
    public NameResolver newNameResolver(URI target, Args args) {
      return SCHEME.equals(target.getScheme()) ? new ServerList(target.getPath().substring(1).split(","), args) : null;
    }
  }
}
