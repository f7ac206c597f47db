#version 3.7;
global_settings { assumed_gamma 1.0 }
camera { location <0, 2, -6> look_at <0, 1, 0> }
light_source { <10, 20, -20> rgb 1 area_light <3,0,0>, <0,0,3>, 5, 5 adaptive 1 }
plane { y, 0 pigment { checker rgb 0.2 rgb 0.9 } finish { reflection 0.2 } }
#declare i = 0;
#while (i < 20)
  sphere { <sin(i*0.9)*2.2, 0.4+mod(i,5)*0.5, cos(i*0.9)*2.2>, 0.4
    pigment { rgb <mod(i,3)/2, mod(i,4)/3, mod(i,5)/4> } finish { reflection 0.3 phong 0.8 } }
  #declare i = i + 1;
#end
