"""Time GluonCV's network, hybridized: gluon_timed.py NAME PARAMS IMAGES LOGITS.

Reads a batch of images from a .npy file and writes the logits to another. Then, for each line on
standard input, runs the batch once and prints the seconds that it took.
"""

from __future__ import annotations

import sys
import time

from converter.references.gluon_child import import_frameworks

name, params, images, logits = sys.argv[1:]
numpy, mxnet, gluoncv = import_frameworks()
net = gluoncv.model_zoo.get_model(name, pretrained=False)
net.collect_params().setattr("grad_req", "null")
net.load_parameters(params)
net.hybridize(static_alloc=True, static_shape=True)
batch = mxnet.nd.array(numpy.load(images))
numpy.save(logits, net(batch).asnumpy())
sys.stdout.write("ready\n")
sys.stdout.flush()
for _ in sys.stdin:
    begin = time.perf_counter()
    net(batch).wait_to_read()
    sys.stdout.write(f"{time.perf_counter() - begin}\n")
    sys.stdout.flush()
