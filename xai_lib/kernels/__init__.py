"""Operations that a GPU does in one pass over memory, and what every device does.

A module here holds one operation: its plain form in torch, which is the reference and
what runs on a CPU, on Apple's MPS and wherever Triton is missing, and a function that
takes the kernel of the same name in `kernels.triton` on an NVIDIA GPU. Triton is not
imported before the first kernel is launched.

With TRITON_INTERPRET=1 in the environment the kernels run on a CPU, in Triton's
interpreter: slowly, which is enough to test them.
"""
