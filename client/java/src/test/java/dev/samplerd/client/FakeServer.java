package dev.samplerd.client;

import com.google.protobuf.Any;
import com.google.rpc.BadRequest;
import dev.samplerd.v1.SampleRequest;
import dev.samplerd.v1.SampleResponse;
import dev.samplerd.v1.SamplerServiceGrpc;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.Status;
import io.grpc.inprocess.InProcessChannelBuilder;
import io.grpc.inprocess.InProcessServerBuilder;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;

/** A server within this process: what it does with a request is up to the request's id. */
final class FakeServer extends SamplerServiceGrpc.SamplerServiceImplBase implements AutoCloseable {
  static final int REFUSED_TWICE = 1;
  static final int REFUSED_FOR_GOOD = 2;
  static final int WRONG = 3;
  static final int NEVER_ANSWERED = 4;

  final AtomicInteger attempts = new AtomicInteger();
  final CountDownLatch cancelled = new CountDownLatch(1);
  private final Server server;

  FakeServer(String name) throws IOException {
    server = InProcessServerBuilder.forName(name).addService(this).build().start();
  }

  static SamplerClient client(String name) {
    Connections channel = new Connections(List.of(InProcessChannelBuilder.forName(name).build()));
    RetryBudget budget = new RetryBudget(RetryPolicy.DEFAULT);
    return new SamplerClient(channel, Duration.ofSeconds(10), RetryPolicy.DEFAULT, budget);
  }

  static SampleRequest request(long id) {
    return SampleRequest.newBuilder().setId(id).build();
  }

  @Override
  public void sample(SampleRequest request, StreamObserver<SampleResponse> reply) {
    int attempt = attempts.incrementAndGet();
    if (request.getId() == NEVER_ANSWERED) {
      io.grpc.Context.current().addListener(context -> cancelled.countDown(), Runnable::run);
    } else if (request.getId() == WRONG) {
      reply.onError(StatusProto.toStatusRuntimeException(wrong()));
    } else if (request.getId() == REFUSED_FOR_GOOD || request.getId() == REFUSED_TWICE && attempt <= 2) {
      Metadata trailers = new Metadata();
      String pushback = request.getId() == REFUSED_FOR_GOOD ? "-1" : "5";
      trailers.put(Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER), pushback);
      reply.onError(Status.RESOURCE_EXHAUSTED.asRuntimeException(trailers));
    } else {
      reply.onNext(SampleResponse.newBuilder().setId(request.getId()).addSamples(7).setFinal(true).build());
      reply.onCompleted();
    }
  }

  private static com.google.rpc.Status wrong() {
    BadRequest.FieldViolation violation =
        BadRequest.FieldViolation.newBuilder().setField("params.top_p").setDescription("no").build();
    return com.google.rpc.Status.newBuilder()
        .setCode(Status.Code.INVALID_ARGUMENT.value())
        .addDetails(Any.pack(BadRequest.newBuilder().addFieldViolations(violation).build()))
        .build();
  }

  /** Answers in the wrong order, in chunks of one sample, when three requests are there or no more come. */
  @Override
  public StreamObserver<SampleRequest> sampleStream(StreamObserver<SampleResponse> replies) {
    return new StreamObserver<>() {
      private final Deque<SampleRequest> waiting = new ArrayDeque<>();

      @Override
      public void onNext(SampleRequest request) {
        waiting.push(request);
        if (waiting.size() == 3) {
          answer();
        }
      }

      private void answer() {
        while (!waiting.isEmpty()) {
          SampleRequest request = waiting.pop();
          chunksOf(request).forEach(replies::onNext);
        }
      }

      @Override
      public void onError(Throwable error) {
        cancelled.countDown();
      }

      @Override
      public void onCompleted() {
        answer();
        replies.onCompleted();
      }
    };
  }

  /** Answers in three chunks, unless the name of the distribution says otherwise. */
  @Override
  public void sampleDistribution(SampleRequest request, StreamObserver<SampleResponse> replies) {
    String name = request.getDistribution();
    int attempt = attempts.incrementAndGet();
    io.grpc.Context.current().addListener(context -> cancelled.countDown(), Runnable::run);
    if (name.equals("busy") && attempt <= 2) {
      replies.onError(Status.UNAVAILABLE.asRuntimeException());
      return;
    }
    for (int i = 0; i < 3; i++) {
      replies.onNext(SampleResponse.newBuilder().addSamples(i).addSamples(9).setChunk(i).setFinal(i == 2).build());
      if (name.equals("silent")) {
        return;
      } else if (name.equals("broken")) {
        replies.onError(Status.UNAVAILABLE.asRuntimeException());
        return;
      } else if (name.equals("cut")) {
        break;
      }
    }
    replies.onCompleted();
  }

  private static List<SampleResponse> chunksOf(SampleRequest request) {
    SampleResponse.Builder reply = SampleResponse.newBuilder().setId(request.getId());
    if (request.getId() == WRONG) {
      return List.of(reply.setError(wrong()).setFinal(true).build());
    }
    List<SampleResponse> chunks = new ArrayList<>();
    for (int i = 0; i < request.getNumSamples(); i++) {
      boolean isLast = i + 1 == request.getNumSamples();
      chunks.add(reply.clone().addSamples(i).addRanks(i + 1).setChunk(i).setFinal(isLast).build());
    }
    return chunks;
  }

  @Override
  public void close() {
    server.shutdownNow();
  }
}
