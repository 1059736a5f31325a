"""The parts that AHS-Seg adds to CAT-Seg, each an option.

As published none of them ever acts: HA-HEM is installed by nobody, MH-FPN, DC-HSP, HPA and AFR end
in errors when they are switched on, and SDR compares a model with itself. Here each is built so
that it changes nothing before it is trained, acts alike in training and in every kind of inference,
and has a loss that reaches the total.
"""
