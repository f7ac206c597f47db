% Products and factorisations of matrices, which OpenBLAS shares out to its threads.
A = reshape(mod((1:250000) * 7919, 1013), 500, 500) / 1013;
B = A;
s = 0;
for k = 1:40
  B = A * B;
  B = B / norm(B, "fro");
  [q, r] = qr(B + k * eye(500));
  s = s + sum(diag(r));
  printf("%d %.12g\n", k, s);
end
