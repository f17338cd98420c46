"""Rollouts: a plan, a state, a pure policy, and the one actor that observes, decides, persists and acts.

commands                            the verbs, as the command line and the flow call them
plans/                              the steps, compiled from a configuration and checked first (pure)
state, notes                        what a rollout is and has done, and what it wants told
analysis/                           measured counts to verdicts with reasons (pure)
policy/                             state, what was seen and the time give the next state (pure)
controller, engine, ports,          the one actor: observe, decide, persist, act
effects, apart, steady, failpoints
storage/                            where the state is kept
outbox, delivery, hooks, outside,   who is told, and who is asked beside the service
gauges
"""
