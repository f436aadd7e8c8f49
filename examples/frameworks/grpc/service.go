package main

import (
	"context"

	"example.com/bearer"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// registerMessages registers a service with three methods, in place of one that
// protoc-gen-go-grpc generates.
func registerMessages(server *grpc.Server) {
	const service = "messages.v1.Messages"
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: service,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			unaryMethod(service, "WhoAmI", func(ctx context.Context) string {
				claims, _ := bearer.FromContext(ctx)
				return claims.Subject
			}),
			unaryMethod(service, "List", func(context.Context) string { return "here are your messages" }),
			unaryMethod(service, "Delete", func(context.Context) string { return "messages deleted" }), // has no rule
		},
		Streams: []grpc.StreamDesc{{
			StreamName:    "Watch",
			ServerStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error {
				if err := stream.RecvMsg(new(emptypb.Empty)); err != nil {
					return err
				}
				claims, _ := bearer.FromContext(stream.Context())
				return stream.SendMsg(wrapperspb.String("a message for " + claims.Subject))
			},
		}},
	}, nil)
}

// unaryMethod returns a method that takes nothing and returns a string.
func unaryMethod(service, name string, call func(context.Context) string) grpc.MethodDesc {
	return grpc.MethodDesc{
		MethodName: name,
		Handler: func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			in := new(emptypb.Empty)
			if err := decode(in); err != nil {
				return nil, err
			}
			handler := func(ctx context.Context, _ any) (any, error) {
				return wrapperspb.String(call(ctx)), nil
			}
			if interceptor == nil {
				return handler(ctx, in)
			}
			return interceptor(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/" + service + "/" + name}, handler)
		},
	}
}
