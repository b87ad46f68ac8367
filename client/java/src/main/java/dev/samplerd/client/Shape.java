package dev.samplerd.client;

import com.google.rpc.Status;
import dev.samplerd.v1.SampleRequest;
import dev.samplerd.v1.SampleResponse;
import dev.samplerd.v1.VerifyDraftRequest;
import dev.samplerd.v1.VerifyDraftResponse;
import java.util.function.Consumer;
import java.util.function.Supplier;

/** What a stream must know of its messages. */
interface Shape<Q, R> {
  /** The request's id; 0: it has none. */
  long idOf(Q request);

  /** The request under an id. */
  Q withId(Q request, long id);

  /** The id of the request that this answers. */
  long requestOf(R reply);

  /** Why the request failed; null: it did not. */
  Status errorOf(R reply);

  /** Whether no more of it comes. */
  boolean isLast(R reply);

  /** Something that puts the parts of one reply together. */
  Whole<R> newWhole();

  /** One reply in the making. */
  interface Whole<R> extends Consumer<R>, Supplier<R> {}

  /** SampleStream: a large draw comes in chunks. */
  Shape<SampleRequest, SampleResponse> SAMPLE =
      new Shape<>() {
        @Override
        public long idOf(SampleRequest request) {
          return request.getId();
        }

        @Override
        public SampleRequest withId(SampleRequest request, long id) {
          return request.getId() == id ? request : request.toBuilder().setId(id).build();
        }

        @Override
        public long requestOf(SampleResponse reply) {
          return reply.getId();
        }

        @Override
        public Status errorOf(SampleResponse reply) {
          return reply.hasError() ? reply.getError() : null;
        }

        @Override
        public boolean isLast(SampleResponse reply) {
          return reply.getFinal();
        }

        @Override
        public Whole<SampleResponse> newWhole() {
          return new Whole<>() {
            private SampleResponse first;
            private SampleResponse.Builder more;

            @Override
            public void accept(SampleResponse part) {
              if (first == null) {
                first = part;
                return;
              }
              more = more == null ? first.toBuilder() : more;
              Samples.append(more, part);
            }

            @Override
            public SampleResponse get() {
              return more == null ? first : more.build();
            }
          };
        }
      };

  /** VerifyDraftStream: every reply is whole. */
  Shape<VerifyDraftRequest, VerifyDraftResponse> VERIFY =
      new Shape<>() {
        @Override
        public long idOf(VerifyDraftRequest request) {
          return request.getId();
        }

        @Override
        public VerifyDraftRequest withId(VerifyDraftRequest request, long id) {
          return request.getId() == id ? request : request.toBuilder().setId(id).build();
        }

        @Override
        public long requestOf(VerifyDraftResponse reply) {
          return reply.getId();
        }

        @Override
        public Status errorOf(VerifyDraftResponse reply) {
          return reply.hasError() ? reply.getError() : null;
        }

        @Override
        public boolean isLast(VerifyDraftResponse reply) {
          return true;
        }

        @Override
        public Whole<VerifyDraftResponse> newWhole() {
          return new Whole<>() {
            private VerifyDraftResponse reply;

            @Override
            public void accept(VerifyDraftResponse part) {
              reply = part;
            }

            @Override
            public VerifyDraftResponse get() {
              return reply;
            }
          };
        }
      };
}
