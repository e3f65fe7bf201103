"""What a spec computes: the elastic supernet and the plain transducer that is cut out of it."""
