"""Images a second through a net converted as a whole, in evaluation mode."""

import copy

import torch

from common import PythonExampleCnn, emit, mnist, name_of, normalized, seconds_a_call, threads_asked

torch.manual_seed(0)
trained = PythonExampleCnn().eval()
images = normalized(mnist(train=False)[0][:64])

for count in threads_asked():
    torch.set_num_threads(count)
    for batch in (1, 64):
        x = images[:batch]
        with torch.no_grad():
            expected = trained(x)
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                net, low = copy.deepcopy(trained).to(dtype), x.to(dtype)
                assert (net(low).float() - expected).abs().max() < 0.1
                emit(f"inference/batch_{batch}", batch / seconds_a_call(lambda: net(low)), "images/s", name_of(dtype),
                     count)
