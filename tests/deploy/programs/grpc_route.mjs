// Run in build/deploy: holds a GRPCRoute, JSON on standard input, against the schema of the Gateway API.
import { readFileSync } from "node:fs";
import { GRPCRoute } from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/GRPCRoute";

new GRPCRoute(JSON.parse(readFileSync(0, "utf8"))).validate();
